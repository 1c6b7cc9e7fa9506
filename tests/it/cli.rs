//! The program as people and other programs use it.

mod look;
mod run;
mod signals;
