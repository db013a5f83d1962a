//! The watchdog: several pgpool nodes, ours and stock ones, that act as one.
//!
//! What decides is here, without sockets, processes or a clock, and tested in random histories; [`shell`]
//! carries it out.
//!
//! | part | what it is |
//! |---|---|
//! | [`codec`] | the bytes of TCP packets, heartbeats and the local socket |
//! | [`settings`] | what the parameters mean, made by [`crate::config`] from either dialect |
//! | [`core`] | membership, election, quorum, consensus, the write lease |
//! | [`lifecheck`] | who is alive |
//! | [`vip`] | escalation, the virtual IP |
//! | [`ipc`] | what tools get for an answer |
//! | [`shell`] | sockets, programs, timers, files: does what the cores say |
//! | [`write_lease`] | what sessions know of the write lease |
//! | [`clock`] | the time for all of these |
//!
//! What the shell around them has to do, besides what the docs of each action say:
//!
//! - one owner of all three cores, on the control thread; the actions of one are events of another, at once
//!   and in order;
//! - listen on `wd_port` and the UDP port; give every accepted connection a number that is never used again;
//!   put packets together ([`codec::take_frame`]), and close a connection whose length field is wrong;
//! - read all that has come before a connection is reported as closed;
//! - bind the local socket after removing a stale one, close each connection after its answer;
//! - let sessions ask [`core::Core::may_serve`] before a write to the primary, not only heed
//!   [`core::Action::Serving`]: a process that was stopped in between must not write;
//! - keep what [`core::Action::Remember`] says in the work directory, beside `pgpool_status`;
//! - hand [`core::Event::Backends`] over before [`core::Event::Start`] and with every new view.

pub mod clock;
pub mod codec;
pub mod core;
pub mod ipc;
pub mod lifecheck;
pub mod settings;
pub mod shell;
#[cfg(test)]
mod sim;
#[cfg(test)]
pub(crate) mod testing;
pub mod vip;
pub mod write_lease;
