//! Tells the program the commit that it is built from, where that is known.

include!("../cli/commit.rs");

fn main() {
    println!("cargo:rerun-if-changed=../cli/commit.rs");
    commit();
}
