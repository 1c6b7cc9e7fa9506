//! The program as people and other programs use it.

mod articles;
mod look;
mod run;
mod signals;
