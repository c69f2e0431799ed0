//! What the nodes of a cluster are asked, over HTTP.

use std::{iter::repeat_n, process::Command};

use serde_json::{Value, json};

use crate::{
    Cluster,
    http::{Answer, curl, exchange},
    process::until,
    samples::Samples,
};

/// The content type of one encoded transaction.
pub const CBOR: &str = "application/cbor";

impl Cluster {
    /// A request to a node's API as a user: the HTTP status and the body.
    pub fn request(&self, node: usize, user: &str, path: &str, extra: &[&str]) -> (u16, String) {
        let answer = self.ask(node, user, path, extra);
        (answer.status, answer.body)
    }

    /// A request to a node's API as a user, with more of curl's options.
    pub fn ask(&self, node: usize, user: &str, path: &str, extra: &[&str]) -> Answer {
        exchange(self.curl_as(node, user, path).args(extra), &[])
    }

    /// Submits transactions, in a body of this content type.
    pub fn post(&self, node: usize, user: &str, query: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut command = self.curl_as(node, user, &format!("/v1/transactions{query}"));
        command.args(["--header", &format!("content-type: {content_type}"), "--data-binary", "@-"]);
        exchange(&mut command, body)
    }

    fn curl_as(&self, node: usize, user: &str, path: &str) -> Command {
        let user = self.user(user);
        let mut command = self.client_command("curl");
        command.arg("--cacert").arg(self.network().join("ca.crt"));
        command.arg("--cert").arg(user.join("tls.crt")).arg("--key").arg(user.join("tls.key"));
        command.arg(format!("{}{path}", self.api(node)));
        command
    }

    /// A GET that must succeed, as JSON.
    pub fn get(&self, node: usize, path: &str) -> Value {
        let answer = self.ask(node, "admin", path, &[]);
        assert_eq!(answer.status, 200, "GET {path} on node {node}: {answer:?}");
        answer.json()
    }

    pub fn height(&self, node: usize) -> u64 {
        self.get(node, "/v1/status")["height"].as_u64().expect("a height")
    }

    /// Waits until a node answers, ready or not.
    pub fn wait_answers(&self, node: usize) {
        until(&format!("node {node} answers"), || self.request(node, "admin", "/v1/status", &[]).0 == 200);
    }

    /// All of a node's blocks from height 1 on.
    pub fn chain(&self, node: usize) -> Vec<Value> {
        let (mut blocks, mut from) = (Vec::new(), Some(1));
        while let Some(next) = from {
            let page = self.get(node, &format!("/v1/blocks?from={next}&limit=100"));
            blocks.extend(page["blocks"].as_array().expect("blocks").iter().cloned());
            from = page["next"].as_u64();
        }
        blocks
    }

    /// Waits until every running node has the same head, and no block is to follow it by itself: one
    /// with transactions is followed by an empty one.
    pub fn wait_agreed(&self) -> u64 {
        let nodes = self.running();
        let mut agreed = 0;
        until("all nodes have the same head", || {
            let heads: Vec<(u64, String)> = nodes
                .iter()
                .map(|i| {
                    let status = self.get(*i, "/v1/status");
                    (status["height"].as_u64().unwrap_or(0), status["head"].to_string())
                })
                .collect();
            agreed = heads[0].0;
            heads.windows(2).all(|pair| pair[0] == pair[1])
                && self.get(nodes[0], &format!("/v1/blocks/{agreed}"))["content"] == json!([])
        });
        agreed
    }

    /// The samples of these families on a node's `/metrics`.
    pub fn samples(&self, node: usize, families: &[&str]) -> Samples {
        let url = format!("{}/metrics", self.health(node));
        let output = curl(self.command_at(node, "curl").args(["--silent", "--fail", &url]), &[]);
        assert!(output.status.success(), "GET {url}: {}", output.status);
        Samples::parse(&String::from_utf8_lossy(&output.stdout), families)
    }

    /// The value of a counter or gauge on a node's `/metrics`, summed over its labels.
    pub fn metric(&self, node: usize, name: &str) -> f64 {
        self.samples(node, &[name]).sum()
    }
}

/// The heights of the blocks that hold a transaction, as often as they hold it.
pub fn heights_of(chain: &[Value], id: &str) -> Vec<u64> {
    let mut heights = Vec::new();
    for block in chain {
        let content = block["content"].as_array().into_iter().flatten();
        let times = content.filter(|transaction| transaction["id"] == id).count();
        heights.extend(repeat_n(block["height"].as_u64().expect("a height"), times));
    }
    heights
}
