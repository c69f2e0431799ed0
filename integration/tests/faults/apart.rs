//! Clusters whose links a test controls, where the machine permits.

use minidlt_integration::{Cluster, Mode, not_run};

/// All nodes of a cluster of four.
pub const ALL: [usize; 4] = [0, 1, 2, 3];

/// Four nodes apart from each other, all ready; or none, said so.
pub fn start(mode: Mode, what: &str) -> Option<Cluster> {
    match Cluster::init_apart(ALL.len(), mode) {
        Ok(mut cluster) => {
            cluster.start_all();
            Some(cluster)
        }
        Err(why) => {
            not_run(what, &why);
            None
        }
    }
}
