pub mod codec;
pub mod event;
pub mod totals;
