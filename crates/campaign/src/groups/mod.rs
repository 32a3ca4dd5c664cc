//! The groups, as in the table of docs/faults.md.

mod damage;
mod files;
mod kills;
mod limits;
mod manners;
mod mixtures;
mod pictures;
mod races;

use crate::case::Group;

pub(crate) fn all() -> Vec<Group> {
    let all = [
        kills::groups(),
        limits::groups(),
        mixtures::groups(),
        damage::groups(),
        files::groups(),
        pictures::groups(),
        races::groups(),
        manners::groups(),
    ];
    all.into_iter().flatten().collect()
}
