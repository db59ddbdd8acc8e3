//! Has cargo notice a migration that is new, and nothing else with it: what embeds them only follows those it knows.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
