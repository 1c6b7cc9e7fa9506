//! What scanning an image means, without an effect: packages, advisories, reports and the gate.
//!
//! A scanner, ours or another, yields one [`Report`]. The [`gate`], the table, SARIF and every
//! summary are derived from it; nothing of another tool's format leaves its reader. Our own
//! scanner is two halves: `inventory` turns files of an image into [`Package`]s, `osv` says
//! which advisories they match. Reading images, databases and programs is the adapters' work.

pub mod fix;
pub mod gate;
mod group;
pub mod inventory;
pub mod markdown;
pub mod osv;
mod package;
mod report;
pub mod sarif;
pub mod sbom;
pub mod table;
pub mod vex;

pub use package::{
    Distro, Ecosystem, Inventory, Location, Package, PackageKind, Source, Uncovered,
};
pub use report::{Advisory, Database, Finding, Rating, Report, Severity, Status, Tool};
