//! Too many members are gone for good for the others to decide anything. They sign a successor without them, and carry
//! on with the whole state; what was proven before is proven still.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    thread::sleep,
    time::Duration,
};

use minidlt_integration::{Cluster, Load, Memory, Mode, Plan, checker, program, run, until};
use serde_json::Value;

const NODES: usize = 4;
/// Longer than a round.
const HALTED_FOR: Duration = Duration::from_secs(3);

struct Revival {
    cluster: Cluster,
    gone: Vec<usize>,
    left: Vec<usize>,
    receipt: PathBuf,
    /// Of the network before.
    members: Value,
    genesis: PathBuf,
    successor: PathBuf,
}

fn load(cluster: &Cluster, through: &'static [usize], clients: usize, transactions: u64) -> Memory {
    let load = Load::start(cluster, Plan { clients, per_second: 200, most: transactions, through });
    until("all is submitted, and its fate known", || load.known() >= transactions);
    load.finish()
}

fn words(of: &[&dyn AsRef<Path>]) -> Vec<String> {
    of.iter().map(|word| word.as_ref().display().to_string()).collect()
}

fn minidlt(cluster: &Cluster, of: &[&dyn AsRef<Path>]) -> Output {
    let words = words(of);
    cluster.minidlt(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A command that must succeed, and what it said.
fn done(cluster: &Cluster, of: &[&dyn AsRef<Path>]) -> String {
    let output = minidlt(cluster, of);
    assert!(output.status.success(), "{:?}: {output:?}", words(of));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One that must fail, and the line that it said why in.
fn refused(cluster: &Cluster, of: &[&dyn AsRef<Path>]) -> String {
    let output = minidlt(cluster, of);
    assert!(!output.status.success(), "{:?}: {output:?}", words(of));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn members(cluster: &Cluster, lists: &[&str]) -> Value {
    Value::from(lists.iter().map(|list| cluster.get(0, &format!("/v1/{list}"))).collect::<Vec<_>>())
}

const UNCHANGED: [&str; 3] = ["users", "organisations", "policies"];

/// A network with a past, of which these nodes are gone for good: data, keys and all.
fn halted(mode: Mode, gone: &[usize]) -> Revival {
    let mut cluster = Cluster::start(NODES, mode);
    let memory = load(&cluster, &[], 2, 100);
    let trader = cluster.user("trader");
    // A change, so that the state is not that of genesis.
    done(
        &cluster,
        &[&"user", &"change", &"trader@Org01", &"--roles", &"submitter,auditor", &"--as", &cluster.user("admin")],
    );
    cluster.wait_agreed();
    let (id, _) = memory.0.iter().find(|(_, fate)| !fate.committed.is_empty()).expect("one that was committed");
    let receipt = cluster.directory.path().join("receipt.json");
    done(&cluster, &[&"receipt", &"--as", &trader, &"--out", &receipt, id]);
    let members = members(&cluster, &UNCHANGED);
    for node in gone {
        cluster.kill_node(*node);
        fs::remove_dir_all(cluster.node(*node)).expect("all of it");
    }

    let before = cluster.height(0);
    let file = cluster.directory.path().join("late.jsonl");
    fs::write(&file, "{\"late\": true}\n").expect("written");
    done(&cluster, &[&"submit", &"--as", &trader, &file]);
    sleep(HALTED_FOR);
    assert_eq!(cluster.height(0), before, "without them nothing is decided");
    let left: Vec<usize> = (0..NODES).filter(|node| !gone.contains(node)).collect();
    for node in &left {
        assert_eq!(cluster.stop_node(*node), 0);
    }
    let (genesis, successor) =
        (cluster.network().join("genesis.yaml"), cluster.directory.path().join("successor.yaml"));
    Revival { cluster, gone: gone.to_vec(), left, receipt, members, genesis, successor }
}

impl Revival {
    fn ledger(&self, node: usize) -> PathBuf {
        self.cluster.node(node).join("data/ledger")
    }

    fn admin(&self, organisation: usize) -> PathBuf {
        self.cluster.user(&if organisation == 0 {
            "admin".to_owned()
        } else {
            format!("admin-Org0{}", organisation + 1)
        })
    }

    /// A successor that admins of the first three organisations have signed, each against a copy of its own. The member
    /// whose node is gone has asked another for one.
    fn agree(&self) {
        let without: Vec<String> = self.gone.iter().map(|node| format!("node{node}@Org0{}", node + 1)).collect();
        let (from, without) = (self.ledger(0), without.join(","));
        let made = done(
            &self.cluster,
            &[
                &"revive",
                &"make",
                &"--from",
                &from,
                &"--genesis",
                &self.genesis,
                &"--without",
                &without,
                &"--out",
                &self.successor,
            ],
        );
        assert!(made.contains("not enough yet: ") && made.contains("policy 'organisations' is not met"), "{made}");
        let early = refused(&self.cluster, &[&"check-config", &self.cluster.node(0), &"--genesis", &self.successor]);
        assert!(early.contains("policy 'organisations' is not met"), "{early}");
        for organisation in 0..3 {
            let copy = self.ledger(*self.left.iter().rev().find(|node| **node <= organisation).unwrap_or(&0));
            let said = done(
                &self.cluster,
                &[&"revive", &"sign", &self.successor, &"--as", &self.admin(organisation), &"--from", &copy],
            );
            assert_eq!(said.contains("may take the place of the genesis file"), organisation == 2, "{said}");
        }
    }

    /// The successor takes the genesis' place, and every node that is left begins with it.
    fn begin(&mut self) {
        fs::rename(&self.genesis, self.cluster.directory.path().join("before.yaml")).expect("moved");
        fs::rename(&self.successor, &self.genesis).expect("moved");
        let unprepared = refused(&self.cluster, &[&"start", &self.cluster.node(0)]);
        assert!(unprepared.contains("which the genesis file's carries on"), "{unprepared}");
        for node in self.left.clone() {
            let (directory, from) = (self.cluster.node(node), self.ledger(node));
            let said = done(&self.cluster, &[&"restore", &directory, &"--from", &from]);
            assert!(said.contains("keeps the network before in "), "{said}");
            self.cluster.start_node(node);
        }
        self.left.iter().for_each(|node| self.cluster.wait_ready(*node));
    }

    /// They decide again, all that was is there, and what was proven is proven.
    fn carries_on(mut self, through: &'static [usize]) {
        assert_eq!(members(&self.cluster, &UNCHANGED), self.members, "with their revisions");
        let nodes = self.cluster.get(0, "/v1/nodes").to_string();
        assert_eq!(nodes.matches("suspended").count(), self.gone.len(), "{nodes}");
        let memory = load(&self.cluster, through, 3, 50);
        assert!(memory.count(|fate| !fate.committed.is_empty()) >= 50);
        // A user of the organisation whose node is gone is one still.
        let (status, body) = self.cluster.request(0, "admin-Org04", "/v1/status", &[]);
        assert_eq!(status, 200, "{body}");
        let status = self.cluster.get(0, "/v1/status");
        assert!(status["predecessor"]["height"].as_u64().is_some_and(|height| height > 0), "{status}");
        let said = done(&self.cluster, &[&"status", &"--as", &self.cluster.user("trader")]);
        assert!(said.contains("carries on "), "{said}");

        let said = done(&self.cluster, &[&"verify-receipt", &self.receipt, &"--genesis", &self.genesis]);
        let network = status["predecessor"]["network"].as_str().expect("an id");
        assert!(said.starts_with("ok: transaction ") && said.contains(network), "{said}");
        self.cluster.wait_agreed();
        let chains: Vec<Vec<Value>> = self.left.iter().map(|node| self.cluster.chain(*node)).collect();
        let verdict = checker::compare(&chains, &memory);
        let faults = [&verdict.lost, &verdict.duplicated, &verdict.forks, &verdict.others];
        assert!(faults.iter().all(|faults| faults.is_empty()), "{verdict:?}");
        for node in self.left.clone() {
            assert_eq!(self.cluster.stop_node(node), 0);
            run(program(&[]).arg("verify").arg(self.cluster.node(node)));
            // The chain before, by the same genesis file.
            let kept = fs::read_dir(self.cluster.node(node).join("data/predecessors")).expect("kept").flatten().next();
            let kept = kept.expect("the chain before").path();
            let said = run(program(&[]).arg("verify").arg("--data").arg(&kept).arg("--genesis").arg(&self.genesis));
            assert!(said.contains("101 transactions"), "{said}");
        }
    }
}

#[test]
fn by_full_consent_three_carry_on_without_the_fourth() {
    let mut revival = halted(Mode::FullConsent, &[3]);
    revival.agree();
    revival.begin();
    revival.carries_on(&[0, 1, 2]);
}

#[test]
fn by_quorum_two_carry_on_without_the_others() {
    let mut revival = halted(Mode::Bft, &[2, 3]);
    revival.agree();
    revival.begin();
    revival.carries_on(&[0, 1]);
}

/// Who signs holds the file against a copy of his own; what does not fit is refused, by whoever reads the file.
#[test]
fn what_does_not_fit_is_not_signed() {
    let revival = halted(Mode::FullConsent, &[3]);
    let cluster = &revival.cluster;
    let sign = |file: &PathBuf, from: &PathBuf| {
        refused(cluster, &[&"revive", &"sign", file, &"--as", &revival.admin(1), &"--from", from])
    };
    let genesis = sign(&revival.genesis, &revival.ledger(1));
    assert!(genesis.contains("no successor"), "{genesis}");
    revival.agree();
    let edited = cluster.directory.path().join("edited.yaml");
    let text = fs::read_to_string(&revival.successor).expect("the successor");
    fs::write(&edited, text.replacen("submitter", "admin", 1)).expect("written");
    let said = sign(&edited, &revival.ledger(1));
    assert!(said.contains("not the members that the state leads to"), "{said}");
    let none = sign(&revival.successor, &cluster.node(1).join("data"));
    assert!(none.contains("there is no ledger here"), "{none}");
    let mut other = Cluster::start(1, Mode::Bft);
    assert_eq!(other.stop_node(0), 0);
    let elsewhere = sign(&revival.successor, &other.node(0).join("data/ledger"));
    assert!(elsewhere.contains("network"), "{elsewhere}");
    let stranger = refused(
        cluster,
        &[&"revive", &"sign", &revival.successor, &"--as", &other.user("admin"), &"--from", &revival.ledger(1)],
    );
    assert!(stranger.contains("the successor carries on "), "{stranger}");
    let out = minidlt(
        cluster,
        &[
            &"revive",
            &"make",
            &"--from",
            &revival.ledger(0),
            &"--genesis",
            &revival.genesis,
            &"--out",
            &revival.successor,
        ],
    );
    assert_eq!(out.status.code(), Some(2), "it is not overwritten: {out:?}");
}

/// One that leaves out blocks which somebody has, or that is of a time to come, gets no signature of theirs.
#[test]
fn who_has_later_blocks_does_not_sign_them_away() {
    let mut cluster = Cluster::start(NODES, Mode::Bft);
    load(&cluster, &[], 2, 20);
    cluster.wait_agreed();
    assert_eq!(cluster.stop_node(0), 0);
    load(&cluster, &[1, 2, 3], 3, 20);
    (1..NODES).for_each(|node| assert_eq!(cluster.stop_node(node), 0));
    let genesis = cluster.network().join("genesis.yaml");
    let ledger = |node: usize| cluster.node(node).join("data/ledger");
    let make = |node: usize, name: &str| {
        let out = cluster.directory.path().join(name);
        done(&cluster, &[&"revive", &"make", &"--from", &ledger(node), &"--genesis", &genesis, &"--out", &out]);
        out
    };
    let admin = cluster.user("admin-Org02");
    let refuses = |file: &PathBuf, words: &str| {
        let before = fs::read(file).expect("the successor");
        let sign: &[&dyn AsRef<Path>] = &[&"revive", &"sign", file, &"--as", &admin, &"--from", &ledger(1)];
        let output = minidlt(&cluster, sign);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(words), "{words}: {output:?}");
        assert_eq!(fs::read(file).expect("the successor"), before, "it is as it was");
    };
    let short = make(0, "short.yaml");
    refuses(&short, "the successor would leave out all after block ");
    let whole = make(1, "whole.yaml");
    let text = fs::read_to_string(&whole).expect("the successor");
    let created = text.lines().find(|line| line.starts_with("created: ")).expect("its time");
    let early = whole.with_file_name("early.yaml");
    fs::write(&early, text.replacen(created, &format!("{created}0"), 1)).expect("written");
    refuses(&early, "ahead of this machine's clock");
    done(&cluster, &[&"revive", &"sign", &whole, &"--as", &admin, &"--from", &ledger(1)]);
}
