//! Questions of the API and of exports.

pub mod as_of;
pub mod changes;
pub mod dead_letters;
pub mod export;
pub mod insights;
pub mod pipeline;
pub mod spans;
