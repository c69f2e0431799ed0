//! One node, as its API shows it. Connections are kept and shared by all clones.

use std::{cell::LazyCell, fmt, rc::Rc, str::FromStr, time::Duration};

use awc::{
    Client, ClientRequest, ClientResponse, Connector,
    http::{
        StatusCode, Uri,
        header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
    },
};
use minidlt_config::user::is_node_url;
use minidlt_protocol::{
    registry::EntryKey,
    types::{Hash, Height},
};
use openssl::{error::ErrorStack, ssl::SslConnector};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    answers::{Explained, Fate, History, Status, Submitted, TransactionStatus},
    error::{ClientError, Problem},
    tls::{Distrust, Verdict},
};

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until an answer begins; more than a busy node needs for a full batch.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node is asked to wait for a commit before it answers; less than the above.
const COMMIT_WAIT: Duration = Duration::from_secs(20);
/// Largest answer read: a page of blocks is at most 8 MiB of content, which JSON may multiply.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The root of a node's API, `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl(Rc<str>);

impl FromStr for NodeUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_node_url(text) && text.parse::<Uri>().is_ok() {
            Ok(Self(text.trim_end_matches('/').into()))
        } else {
            Err(ClientError::Url(text.into()))
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An HTTP client.
pub fn http_client(tls: SslConnector) -> Client {
    let connector = Connector::new().openssl(tls).timeout(CONNECT_TIMEOUT);
    Client::builder().connector(connector).timeout(ANSWER_TIMEOUT).disable_redirects().finish()
}

type Made = Result<Client, ErrorStack>;

/// One node.
#[derive(Clone)]
pub struct NodeClient {
    http: Rc<LazyCell<Made, Box<dyn FnOnce() -> Made>>>,
    url: NodeUrl,
    verdict: Verdict,
}

impl NodeClient {
    /// `make` is called when the node is first asked: it is slow, for both OpenSSL's defaults and the HTTP
    /// client's read all of the system's authorities, though none of them is believed here.
    pub fn new(url: NodeUrl, make: impl FnOnce() -> Made + 'static) -> Self {
        let make: Box<dyn FnOnce() -> Made> = Box::new(make);
        Self { http: Rc::new(LazyCell::new(make)), url, verdict: Verdict::default() }
    }

    /// With what the client's handshakes hold against the node's certificate.
    pub fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    pub fn url(&self) -> &NodeUrl {
        &self.url
    }

    pub(super) fn http(&self) -> Result<&Client, ClientError> {
        let made: &Made = &self.http;
        made.as_ref().map_err(|error| ClientError::Tls(error.clone()))
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    pub async fn raw_status(&self) -> Result<Value, ClientError> {
        self.get("/v1/status").await
    }

    /// `which` is a height, a hash or `latest`.
    pub async fn block<T: DeserializeOwned>(&self, which: &str) -> Result<T, ClientError> {
        self.get(&format!("/v1/blocks/{which}")).await
    }

    /// `{blocks: […], next}`
    pub async fn blocks(&self, from: Option<Height>, limit: usize) -> Result<Value, ClientError> {
        let from = from.map(|from| format!("from={from}&")).unwrap_or_default();
        self.get(&format!("/v1/blocks?{from}limit={limit}")).await
    }

    /// Hands in a CBOR sequence of signed transactions.
    pub async fn submit(&self, sequence: Vec<u8>) -> Result<Submitted, ClientError> {
        let request = self.http()?.post(self.address("/v1/transactions"));
        let request = request.insert_header((CONTENT_TYPE, "application/cbor-seq"));
        let (response, body) = self.exchange(request, sequence).await?;
        // A node that refuses each of them still says so one by one, under the first one's status.
        match self.json(&body) {
            Ok(submitted) => Ok(submitted),
            Err(unexpected) if response.status().is_success() => Err(unexpected),
            Err(_) => Err(self.refusal(&response, &body)),
        }
    }

    pub async fn transaction(&self, id: &Hash) -> Result<TransactionStatus, ClientError> {
        self.get(&format!("/v1/transactions/{id}")).await
    }

    /// The receipt's own text, byte for byte.
    pub async fn receipt(&self, id: &Hash) -> Result<String, ClientError> {
        let request = self.http()?.get(self.address(&format!("/v1/transactions/{id}/receipt")));
        let body = self.answer(request, Vec::new()).await?;
        String::from_utf8(body).map_err(|_| self.unexpected("a receipt that is not UTF-8 text"))
    }

    /// The state proof's own text, byte for byte.
    pub async fn state_proof(&self, key: &EntryKey) -> Result<String, ClientError> {
        let path = format!("/v1/{}/{}?proof=true", key.collection(), key.name());
        let body = self.answer(self.http()?.get(self.address(&path)), Vec::new()).await?;
        String::from_utf8(body).map_err(|_| self.unexpected("a state proof that is not UTF-8 text"))
    }

    /// Hands in one signed transaction, and waits for its commit for a while.
    pub async fn submit_and_wait(&self, bytes: Vec<u8>) -> Result<Fate, ClientError> {
        let wait = COMMIT_WAIT.as_secs();
        let path = format!("/v1/transactions?wait=committed&timeout={wait}s");
        let request = self.http()?.post(self.address(&path)).insert_header((CONTENT_TYPE, "application/cbor"));
        let body = self.answer(request, bytes).await?;
        self.json(&body)
    }

    pub async fn fate(&self, id: &Hash) -> Result<Fate, ClientError> {
        self.get(&format!("/v1/transactions/{id}")).await
    }

    /// What of the policies that a signed transaction, in its JSON form, needs is met.
    pub async fn explain(&self, transaction: &Value) -> Result<Explained, ClientError> {
        let request = self.http()?.post(self.address("/v1/transactions/explain"));
        let request = request.insert_header((CONTENT_TYPE, "application/json"));
        let body = self.answer(request, transaction.to_string().into_bytes()).await?;
        self.json(&body)
    }

    /// An entry as the head's header certifies it, without the proof; none where there is none.
    pub async fn certified(&self, key: &EntryKey) -> Result<Option<Value>, ClientError> {
        match self.get::<Value>(&format!("/v1/{}/{}", key.collection(), key.name())).await {
            Ok(mut answer) => Ok(Some(answer["value"].take())),
            Err(ClientError::Refused { problem, .. }) if problem.status == StatusCode::NOT_FOUND.as_u16() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All users, nodes, organisations, policies or record types, as of the head.
    pub async fn entries(&self, collection: &str) -> Result<Vec<Value>, ClientError> {
        let mut answer: Value = self.get(&format!("/v1/{collection}")).await?;
        match answer[collection.replace('-', "_")].take() {
            Value::Array(entries) => Ok(entries),
            _ => Err(self.unexpected(&format!("no list of {collection}"))),
        }
    }

    /// A page of who changed an entry, from the beginning or after the page before.
    pub async fn history(&self, key: &EntryKey, after: Option<&str>) -> Result<History, ClientError> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        self.get(&format!("/v1/{}/{}/history{after}", key.collection(), key.name())).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.answer(self.http()?.get(self.address(path)), Vec::new()).await?;
        self.json(&body)
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn answer(&self, request: ClientRequest, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let (response, body) = self.exchange(request, body).await?;
        if response.status().is_success() { Ok(body) } else { Err(self.refusal(&response, &body)) }
    }

    async fn exchange(&self, request: ClientRequest, body: Vec<u8>) -> Result<(ClientResponse, Vec<u8>), ClientError> {
        let request = request.insert_header((ACCEPT, "application/json, application/problem+json"));
        let mut response = request.send_body(body).await.map_err(|error| self.unreachable(error))?;
        let bytes = response.body().limit(MAX_ANSWER_BYTES).await.map_err(|error| self.unreachable(error))?;
        Ok((response, bytes.to_vec()))
    }

    fn refusal(&self, response: &ClientResponse, body: &[u8]) -> ClientError {
        let status = response.status();
        let problem = problem_of(status, body);
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        ClientError::Refused { url: self.url.to_string(), problem, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.unexpected(&error.to_string()))
    }

    fn unexpected(&self, what: &str) -> ClientError {
        ClientError::Unexpected { url: self.url.to_string(), what: what.into() }
    }

    /// There is a verdict only if this error is that of the handshake that gave it: the HTTP client
    /// passes the one on in the same breath as it has the other.
    pub(super) fn unreachable(&self, error: impl fmt::Display) -> ClientError {
        let url = self.url.to_string();
        match self.verdict.take() {
            Some(Distrust { subject, reason }) => ClientError::Certificate { url, subject, reason },
            None => match error.to_string() {
                reason if is_refusal_of_us(&reason) => ClientError::RefusesUs { url, reason },
                reason => ClientError::Unreachable { url, reason },
            },
        }
    }
}

/// Whether an error is an alert that the node does not take the client's certificate. OpenSSL tells them
/// by these words alone; what the client itself does not believe is no alert.
fn is_refusal_of_us(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let about_us = ["certificate", "unknown ca", "access denied"].iter().any(|words| reason.contains(words));
    reason.contains("alert") && about_us
}

fn problem_of(status: StatusCode, body: &[u8]) -> Problem {
    let fallback = || Problem::of_status(status.as_u16(), status.canonical_reason().unwrap_or("refused"));
    let mut problem: Problem = serde_json::from_slice(body).unwrap_or_else(|_| fallback());
    problem.status = status.as_u16();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_about_our_certificate_is_told_from_other_trouble() {
        for words in ["ssl/tls alert certificate unknown", "sslv3 alert bad certificate", "tlsv1 alert unknown ca"] {
            assert!(is_refusal_of_us(&format!("error:0A000416:SSL routines:ssl3_read_bytes:{words}")), "{words}");
        }
        for words in ["certificate verify failed", "tlsv1 alert internal error", "Connection refused"] {
            assert!(!is_refusal_of_us(words), "{words}");
        }
    }

    #[test]
    fn only_the_root_of_an_https_address_is_taken() {
        assert_eq!("https://localhost:3401/".parse::<NodeUrl>().unwrap().to_string(), "https://localhost:3401");
        for bad in ["localhost:3401", "http://localhost:3401", "https://h/v1", "https://h?x=1", "https://u:p@h", ""] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_without_a_problem_document_still_reads_well() {
        assert_eq!(problem_of(StatusCode::NOT_FOUND, b"<html>").to_string(), "Not Found (status 404)");
        let body = br#"{"type":"urn:minidlt:problem:not-found","title":"Not found","detail":"no block 9"}"#;
        let problem = problem_of(StatusCode::NOT_FOUND, body);
        assert_eq!((problem.kind(), problem.status), ("not-found", 404));
    }
}
