//! The watchdog: several pgpool nodes, ours and stock ones, that act as one.
pub mod codec;
pub mod settings;
