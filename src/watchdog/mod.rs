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
//! | [`guard`] | the process that removes the virtual IP when pgpool cannot |
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
//! - take the time from [`clock::now`] for all three cores, and count timers as differences to it;
//! - after every event, and before it carries the actions out: give [`core::Core::serving`] to
//!   [`write_lease::WriteLease::set`], and where that says so, tell the sessions
//!   ([`crate::dataplane::Handle::serving_again`]); tell the failover core when
//!   [`core::Core::coordinates`] has changed;
//! - keep what [`core::Action::Remember`] says in the work directory, beside `pgpool_status`, on disk before it
//!   goes on with the next action: what is sent then promises it;
//! - hand [`core::Event::Backends`] over before [`core::Event::Start`], and each time before a new view is
//!   published;
//! - answer [`crate::failover::core::Action::AskToBegin`] with [`core::Core::may_still_begin`], and say
//!   [`core::Event::FailoverDropped`] of every request of the watchdog that is not carried out.

pub mod clock;
pub mod codec;
pub mod core;
pub mod guard;
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
