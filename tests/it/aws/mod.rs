//! AWS: request shapes against moto, what goes wrong against a server that does as it is told, and
//! the program itself against both.

mod articles;
mod buckets;
mod calls;
mod chaos;
mod credentials;
mod delivery;
mod ecr;
mod issuer;
mod kept;
mod lazy;
mod objects;
mod policy;
mod secrets;
mod shapes;
