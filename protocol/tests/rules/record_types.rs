//! Types of records: which schemas are taken, what does not fit one, whose consent a record needs, and what a
//! block with a record that does not fit is.

use std::sync::LazyLock;

use minidlt_protocol::{
    block::{BlockError, Header, SharedTransaction},
    governance::{Change, ChangeRefused, ChangeUser, RemoveOrganisation, SetRecordType, apply},
    limits::{MAX_NAMED_PARTS, MAX_RECORD_TYPES},
    merkle,
    record_type::{
        DRAFT, MAX_CHECKS, MAX_CHECKS_A_RECORD, MAX_PATTERN_BYTES, MAX_PATTERNS, MAX_SCHEMA_BYTES, MAX_SUBSCHEMAS,
        Misfit, RecordType, Schema, TypeRefused,
    },
    registry::{Entry, EntryKey, Policy, Registry, Role, Standing},
    state::{self, Outcome},
    transaction::{Body, Content, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes},
    vote::ConsensusMode,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    common::{ADMINS, AUDITOR, BROKER, NOW, TRADER, identity, key, name},
    governance::{Run, change_user, failed, refused, registry, voters_keys},
};

/// What the trades of these tests are made of.
static TRADE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "$schema": DRAFT,
        "type": "object",
        "properties": {
            "ISIN": {"type": "string", "pattern": "^[A-Z]{2}[A-Z0-9]{9}\\d$"},
            "price": {"type": "number", "exclusiveMinimum": 0},
            "seller": {"type": "string"},
            "buyer": {"type": "string"},
        },
        "required": ["ISIN", "price", "seller", "buyer"],
        "additionalProperties": false,
    })
});

fn trade(seller: &str, buyer: &str) -> Value {
    json!({"ISIN": "US0378331005", "price": 27.18, "seller": seller, "buyer": buyer})
}

fn schema(json: &Value) -> Result<Schema, String> {
    Schema::compile(&Content::from_json(json)).map_err(|error| error.to_string())
}

/// Why a value does not fit a schema.
fn misfit(json: &Value, value: &Value) -> Option<String> {
    let schema = schema(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    schema.check(&[Content::from_json(value)]).err().map(|(_, misfit)| misfit.to_string())
}

/// The seller's and the buyer's organisations have somebody of this role sign.
fn both_sides(role: Role) -> Policy {
    let side = |at: &str| Policy::Named { organisation_in: at.into(), role: role.into() };
    Policy::All { all: vec![side("/seller"), side("/buyer")] }
}

fn set(revision: Option<u64>, schema: &Value, policy: Option<Policy>) -> SetRecordType {
    SetRecordType { name: name("trade"), revision, schema: Content::from_json(schema), policy, standing: None }
}

fn change(set: SetRecordType) -> Change {
    Change::SetRecordType(set)
}

/// A record of type `trade`, as of the ledger's time.
fn record(run: &Run, (who, seed): (&str, u8), nonce: u64, contents: &[Value]) -> SignedTransaction {
    let created = run.ledger.head.created;
    let contents = contents.iter().map(Content::from_json).collect();
    let operation = Operation::Record { record_type: Some(name("trade")), contents };
    let body = Body { operation, created, expires: created.plus_millis(60_000), ..run.network.body(who, nonce) };
    SignedTransaction::sign(&body, &key(seed))
}

fn parsed(run: &Run, signed: &SignedTransaction) -> Transaction {
    Transaction::parse(TransactionBytes::from(signed), &run.network.id).expect("it is well-formed")
}

/// What a node checks on arrival.
fn admit(run: &Run, signed: &SignedTransaction) -> Result<SharedTransaction, Refusal> {
    let registry = &run.ledger.registry;
    let transaction = parsed(run, signed);
    transaction.authorise(registry, None)?;
    let held = transaction.verify(registry)?;
    held.rehearse(registry, run.ledger.head.created)?;
    Ok(held.into())
}

fn type_refused(refusal: &Refusal) -> &TypeRefused {
    match refusal {
        Refusal::Record(refused) => refused,
        other => panic!("{other:?}"),
    }
}

/// A ledger with this type of trades.
fn run_with(schema: &Value, policy: Option<Policy>) -> Run {
    let mut run = Run::new(ConsensusMode::Bft);
    let set = run.sign(change(set(None, schema, policy)), &ADMINS[..3]);
    assert_eq!(run.commit(&[set], &voters_keys()), [Outcome::Ok]);
    run
}

#[test]
fn each_keyword_holds_a_record_to_what_it_says() {
    for (schema, fits, does_not, reason) in [
        (json!({"type": "integer"}), json!(3.0), json!(3.5), "at /: want integer, but got number"),
        (json!({"type": ["string", "null"]}), json!(null), json!(true), "at /: want null or string, but got boolean"),
        (json!({"enum": [1, "a"]}), json!("a"), json!("b"), "at /: value must be one of 1, 'a'"),
        (json!({"const": "x"}), json!("x"), json!("y"), "at /: value must be 'x'"),
        (json!({"minimum": 1}), json!(1), json!(0.5), "at /: must be >=1, but got 0.5"),
        (json!({"maximum": 1}), json!(1), json!(2), "at /: must be <=1, but got 2"),
        (json!({"exclusiveMinimum": 0}), json!(1), json!(0), "at /: must be > 0 but got 0"),
        (json!({"exclusiveMaximum": 0}), json!(-1), json!(0), "at /: must be < 0 but got 0"),
        (json!({"minLength": 2}), json!("éé"), json!("é"), "at /: length must be >=2, but got 1"),
        (json!({"maxLength": 1}), json!("é"), json!("ab"), "at /: length must be <=1, but got 2"),
        (json!({"pattern": "^\\d+$"}), json!("12"), json!("٣"), "at /: '٣' does not match pattern '^[0-9]+$'"),
        (json!({"minItems": 1}), json!([0]), json!([]), "at /: minimum 1 items required, but got 0 items"),
        (json!({"maxItems": 0}), json!([]), json!([1]), "at /: maximum 0 items required, but got 1 items"),
        (json!({"items": {"type": "null"}}), json!([null]), json!([null, 1]), "at /1: want null, but got number"),
        (json!({"prefixItems": [true, false]}), json!([1]), json!([1, 2]), "at /1: false schema"),
        (
            json!({"contains": {"const": 1}}),
            json!([0, 1]),
            json!([0]),
            "at /: no items match contains schema: value must be 1",
        ),
        (
            json!({"contains": {"const": 1}, "minContains": 2}),
            json!([1, 1]),
            json!([1]),
            "at /: minimum 2 items required to match contains schema, but found 1 items at 0",
        ),
        (
            json!({"contains": {"const": 1}, "maxContains": 1}),
            json!([1]),
            json!([1, 1]),
            "at /: maximum 1 items required to match contains schema, but found 2 items at 0, 1",
        ),
        (
            json!({"minProperties": 1}),
            json!({"a": 1}),
            json!({}),
            "at /: minimum 1 properties required, but got 0 properties",
        ),
        (
            json!({"maxProperties": 0}),
            json!({}),
            json!({"a": 1}),
            "at /: maximum 0 properties required, but got 1 properties",
        ),
        (json!({"required": ["a"]}), json!({"a": 1}), json!({"b": 1}), "at /: missing properties 'a'"),
        (
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"b": 1}),
            json!({"a": 1}),
            "at /: properties 'b' required, if 'a' property exists",
        ),
        (
            json!({"dependentSchemas": {"a": {"maxProperties": 1}}}),
            json!({"b": 1, "c": 2}),
            json!({"a": 1, "b": 2}),
            "at /: maximum 1 properties required, but got 2 properties",
        ),
        (
            json!({"properties": {"a/b": {"type": "null"}}}),
            json!({"c": 1}),
            json!({"a/b": 1}),
            "at /a~1b: want null, but got number",
        ),
        (json!({"patternProperties": {"^x": false}}), json!({"a": 1}), json!({"xy": 1}), "at /xy: false schema"),
        (
            json!({"additionalProperties": false}),
            json!({}),
            json!({"a": 1}),
            "at /: additionalProperties 'a' not allowed",
        ),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"a": 1}),
            json!({"ab": 1}),
            "at /: length must be <=1, but got 2",
        ),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), json!(1), json!(3), "at /: must be <=2, but got 3"),
        (
            json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
            json!("a"),
            json!(1),
            "at /: anyOf failed: want null, but got number",
        ),
        (
            json!({"oneOf": [{"minimum": 1}, {"maximum": 2}]}),
            json!(0),
            json!(1),
            "at /: oneOf failed, subschemas 0, 1 matched",
        ),
        (json!({"not": {"type": "null"}}), json!(1), json!(null), "at /: not failed"),
        (
            json!({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"minimum": 1}}),
            json!(1),
            json!(""),
            "at /: length must be >=1, but got 0",
        ),
        (json!(false), Value::Null, json!(1), "at /: false schema"),
    ] {
        if schema != json!(false) {
            assert_eq!(misfit(&schema, &fits), None, "{schema}");
        }
        assert_eq!(misfit(&schema, &does_not).as_deref(), Some(reason), "{schema}");
    }
    let said = json!({"title": "t", "description": "d", "$comment": "c", "default": 1, "examples": [1], "deprecated": true,
        "readOnly": true, "writeOnly": true});
    assert_eq!(misfit(&said, &json!("anything")), None, "what is said to people holds nobody to anything");
}

#[test]
fn what_is_not_taken_as_a_schema() {
    for keyword in [
        "$ref",
        "$dynamicRef",
        "$id",
        "$anchor",
        "$dynamicAnchor",
        "$defs",
        "$vocabulary",
        "unevaluatedItems",
        "unevaluatedProperties",
        "format",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "multipleOf",
        "uniqueItems",
        "definitions",
        "dependencies",
        "requierd",
    ] {
        let error = schema(&json!({"properties": {"a": {keyword: "#"}}})).unwrap_err();
        let expected = format!(
            "the keyword {keyword:?} at /properties/a is not known here; protocol/README.md lists those that are"
        );
        assert_eq!(error, expected);
    }
    let named_so = json!({"properties": {"$ref": true, "format": true}, "const": {"$ref": "#"}, "required": ["$ref"]});
    assert!(schema(&named_so).is_ok(), "a member of a record may have any name");

    let pattern = |pattern: &str| schema(&json!({"pattern": pattern})).unwrap_err();
    for bad in [r"\p{L}", r"\P{L}", r"\bx", r"\B", r"\<a", r"a\>"] {
        assert!(pattern(bad).ends_with("depend on the version of Unicode"), "{bad}");
    }
    for bad in ["(?i)a", "(?=a)", "(?<name>a)", "(?P<name>a)"] {
        assert!(pattern(bad).contains("only '(?:' is taken"), "{bad}");
    }
    assert!(pattern("(a").contains("unclosed group"), "{}", pattern("(a"));
    assert!(pattern(r"(a)\1").contains("backreferences are not supported"), "{}", pattern(r"(a)\1"));
    for slow in ["(a{50}){99}", "a[ab]{100}[cd]", "(?:[ab]{0,9}a){5}[c-e]", "[ab]*a[ab]{50}x[ab]*"] {
        assert!(pattern(slow).contains("its automaton is too large"), "{slow}: {}", pattern(slow));
    }
    assert!(pattern("a{9}{999999999}").contains("exceeded limit"), "{}", pattern("a{9}{999999999}"));
    for usual in
        ["^[A-Z]{2}[A-Z0-9]{9}\\d$", "^\\d{4}-\\d\\d-\\d\\d$", "^.{1,64}$", "^[^@\\s]+@[^@\\s]+$", "^https://", "é+"]
    {
        assert!(schema(&json!({ "pattern": usual })).is_ok(), "{usual}: {}", pattern(usual));
    }
    assert!(pattern(&"a".repeat(MAX_PATTERN_BYTES + 1)).contains("longer than"));
    let name = schema(&json!({"patternProperties": {"(": true}})).unwrap_err();
    assert!(name.contains("at /patternProperties"), "{name}");

    for (bad, says) in [
        (json!({"type": "strng"}), "at /type: anyOf failed: value must be one of 'array'"),
        (json!({"required": "a"}), "at /required: want array, but got string"),
        (json!({"required": ["a", "a"]}), "at /required: items at 0 and 1 are equal"),
        (json!({"minLength": -1}), "at /minLength: must be >=0"),
        (json!({"properties": {"a": 1}}), "at /properties/a: want boolean or object, but got number"),
        (json!({"allOf": []}), "at /allOf: minimum 1 items required"),
        (json!("a text"), "at /: want boolean or object, but got string"),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
            "schemas are of https://json-schema.org/draft/2020-12",
        ),
    ] {
        let error = schema(&bad).unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
    let many = |count: usize| schema(&json!({"allOf": vec![json!({}); count]}));
    assert!(many(MAX_SUBSCHEMAS - 1).is_ok());
    assert_eq!(many(MAX_SUBSCHEMAS).unwrap_err(), "more than 500 schemas within it");
    let patterns = |count: usize| schema(&json!({"allOf": vec![json!({"pattern": "a"}); count]}));
    assert!(patterns(MAX_PATTERNS).is_ok());
    assert_eq!(patterns(MAX_PATTERNS + 1).unwrap_err(), "more than 64 patterns within it");
    let large = schema(&json!({"description": "x".repeat(MAX_SCHEMA_BYTES)})).unwrap_err();
    assert!(large.contains("at most 16384 are possible"), "{large}");
}

#[test]
fn what_checking_costs_is_bounded() {
    let heavy = json!({"items": {"enum": (0..2_000).collect::<Vec<_>>()}});
    let reason = |value: Value| schema(&heavy).unwrap().check(&[Content::from_json(&value)]).unwrap_err().1;
    assert_eq!(reason(json!(vec![1; 200])), Misfit::Checks { limit: MAX_CHECKS_A_RECORD });
    assert!(matches!(reason(json!([-1])), Misfit::Value { .. }));
    let records = vec![Content::from_json(&json!(vec![1; 100])); 10];
    assert_eq!(schema(&heavy).unwrap().check(&records), Err((5, Misfit::Checks { limit: MAX_CHECKS })));
    let patterns: serde_json::Map<_, _> = (0..MAX_PATTERNS).map(|n| (format!("^{n}"), json!(true))).collect();
    let text = Content::from_json(&json!("x".repeat(70_000)));
    let read = schema(&json!({"patternProperties": patterns})).unwrap().check(&[text]);
    assert_eq!(read, Err((0, Misfit::PatternReads)));
}

#[test]
fn a_record_of_a_type_must_fit_it() {
    let run = run_with(&TRADE, None);
    let refusal = |contents: &[Value]| admit(&run, &record(&run, TRADER, 1, contents)).unwrap_err();
    assert!(admit(&run, &record(&run, TRADER, 1, &[trade("Org01", "Org02")])).is_ok());
    let mut odd = trade("Org01", "Org02");
    odd["price"] = json!(-1);
    let refused = refusal(&[trade("Org01", "Org02"), odd.clone()]);
    let said = "record 1 does not fit the schema of record type 'trade': at /price: must be > 0 but got -1";
    assert_eq!((refused.to_string().as_str(), refused.kind()), (said, "record-does-not-fit"));
    assert!(refusal(&[json!({"ISIN": "x"})]).to_string().contains("missing properties 'price', 'seller', 'buyer'"));
    let unsigned = parsed(&run, &record(&run, TRADER, 1, &[odd]));
    let could = unsigned.check_change(&run.ledger.registry, NOW);
    assert!(matches!(could, Err(Refusal::Record(TypeRefused::Misfit { .. }))), "{could:?}");

    let none = Run::new(ConsensusMode::Bft);
    let unknown = admit(&none, &record(&none, TRADER, 1, &[json!(1)])).unwrap_err();
    assert_eq!(type_refused(&unknown), &TypeRefused::Unknown(name("trade")));
    assert_eq!(unknown.kind(), "unknown-record-type");
    let auditor = admit(&run, &record(&run, AUDITOR, 1, &[trade("Org01", "Org02")])).unwrap_err();
    assert_eq!(auditor.kind(), "role-missing", "its author is a submitter all the same");
}

#[test]
fn a_record_of_a_suspended_type_is_refused_until_it_is_resumed() {
    let mut run = run_with(&TRADE, None);
    let honest = record(&run, TRADER, 1, &[trade("Org01", "Org02")]);
    let held = admit(&run, &honest).unwrap();
    let mut with = |revision, standing| {
        let set = SetRecordType { standing, ..set(Some(revision), &TRADE, None) };
        let set = run.sign(change(set), &ADMINS[..3]);
        assert_eq!(run.commit(&[set], &voters_keys()), [Outcome::Ok]);
        (run.ledger.registry.clone(), run.ledger.registry.record_types[&name("trade")].revision)
    };
    let (suspended, revision) = with(0, Some(Standing::Suspended));
    assert_eq!(revision, 1);
    let refused = held.check_standing(&suspended).unwrap_err();
    assert_eq!(refused.to_string(), "record type 'trade' is suspended: no record of it is taken");
    assert_eq!(refused.kind(), "record-type-suspended");
    let (resumed, _) = with(1, None);
    assert_eq!(held.check_standing(&resumed), Ok(()));
    let (revoked, _) = with(2, Some(Standing::Revoked));
    assert!(held.check_standing(&revoked).is_err());
    let for_ever = apply(&change(set(Some(3), &TRADE, None)), &mut (*revoked).clone(), NOW);
    assert_eq!(for_ever, Err(ChangeRefused::Revoked(EntryKey::RecordType(name("trade")))));
}

#[test]
fn a_trade_needs_the_sellers_and_the_buyers_organisations() {
    let run = run_with(&TRADE, Some(both_sides(Role::Admin)));
    let trades = [trade("Org01", "Org02"), trade("Org02", "Org01"), trade("Org01", "Org02")];
    let signed = |endorsers: &[(&str, u8)], contents: &[Value]| {
        let mut signed = record(&run, TRADER, 1, contents);
        endorsers.iter().for_each(|(who, seed)| run.network.endorse(&mut signed, who, *seed));
        signed
    };
    let refusal = |endorsers: &[(&str, u8)], contents: &[Value]| {
        let refused = admit(&run, &signed(endorsers, contents)).unwrap_err();
        assert!(refused.is_lack_of_endorsements() && refused.kind() == "policy-not-met", "{refused}");
        refused.to_string()
    };
    let said = "the policy of record type 'trade' is not met; missing: admin of Org02. \
                Have it endorsed and submit it with the endorsements";
    assert_eq!(refusal(&ADMINS[..1], &trades[..1]), said);
    assert!(refusal(&[], &trades).contains("missing: admin of Org01, admin of Org02, admin of Org01, admin of Org02"));
    assert!(admit(&run, &signed(&ADMINS[..2], &trades)).is_ok());
    let nowhere = "admin of an organisation, which /buyer of a record does not name";
    assert!(refusal(&ADMINS, &[trade("Org01", "Org09")]).contains(nowhere));

    // Whose consent is there is told before it is all there; so is whether it would do.
    let half = parsed(&run, &signed(&ADMINS[..1], &trades));
    let explained = half.explain(&run.ledger.registry);
    let [(of, explanation)] = explained.as_slice() else { panic!("{explained:?}") };
    assert_eq!((of.as_str(), explanation.met), ("record type 'trade'", false));
    let sellers = &explanation.parts[0];
    assert_eq!(sellers.rule, "admin of the organisation at /seller of each record");
    let met: Vec<_> = sellers.parts.iter().map(|part| (part.rule.as_str(), part.met)).collect();
    assert_eq!(met, [("admin of Org01", true), ("admin of Org02", false)], "each organisation once");
    assert_eq!(half.check_change(&run.ledger.registry, NOW), Ok(()));
    assert!(half.check_standing(&run.ledger.registry).is_err(), "no block may hold it");
    // The author's own signature counts, too.
    let submitters = run_with(&TRADE, Some(both_sides(Role::Submitter)));
    let mut own = record(&submitters, TRADER, 1, &trades);
    submitters.network.endorse(&mut own, BROKER.0, BROKER.1);
    assert!(admit(&submitters, &own).is_ok());
}

#[test]
fn a_block_with_a_record_that_does_not_fit_is_refused_by_all() {
    let run = run_with(&TRADE, Some(both_sides(Role::Submitter)));
    let with = |contents: &[Value], endorsed: bool| {
        let mut signed = record(&run, TRADER, 1, contents);
        if endorsed {
            run.network.endorse(&mut signed, BROKER.0, BROKER.1);
        }
        // A lying gateway has it in a block without having asked any of this.
        let lying = parsed(&run, &signed);
        let transactions_root = merkle::root(&[lying.leaf]);
        let header = Header { transactions_root, ..run.network.certified(&run.ledger.head, &[], &[]).block.header };
        header.check_transactions([&lying].into_iter(), &run.ledger.registry)
    };
    assert_eq!(with(&[trade("Org01", "Org02")], true), Ok(()));
    let refusal = |result: Result<(), BlockError>| match result {
        Err(BlockError::Transaction { position: 0, reason }) => reason.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(with(&[json!({})], true)), "policy-not-met", "whom it needs is not told");
    let mut odd = trade("Org01", "Org02");
    odd["more"] = json!(1);
    assert_eq!(refusal(with(&[odd], true)), "record-does-not-fit");
    assert_eq!(refusal(with(&[trade("Org01", "Org02")], false)), "policy-not-met");
}

#[test]
fn a_schema_that_is_none_is_in_no_block_either() {
    let mut run = Run::new(ConsensusMode::Bft);
    let bad = run.sign(change(set(None, &json!({"type": "strng"}), None)), &ADMINS[..3]);
    let refused = admit(&run, &bad).unwrap_err();
    assert_eq!(refused.kind(), "bad-schema");
    let said = "the change is not possible: the schema: at /type: anyOf failed: value must be one of ";
    assert!(refused.to_string().starts_with(said), "{refused}");
    let standing = parsed(&run, &bad).check_standing(&run.ledger.registry).unwrap_err();
    assert_eq!(standing, refused, "a rule of blocks");
    let binary = SetRecordType { schema: serde_json::from_value(json!(1)).unwrap(), ..set(None, &json!({}), None) };
    assert_eq!(binary.schema, Content::from_json(&json!(1)), "in JSON it reads as the value itself");
    let huge = run.sign(change(set(None, &json!("x".repeat(MAX_SCHEMA_BYTES)), None)), &ADMINS[..3]);
    let refused = Transaction::parse(TransactionBytes::from(&huge), &run.network.id).unwrap_err();
    assert!(refused.to_string().contains("its schema: 16387 bytes"), "{refused}");
}

#[test]
fn a_type_that_changed_is_asked_again_of_what_waits() {
    let mut run = run_with(&TRADE, None);
    let waiting = admit(&run, &record(&run, TRADER, 1, &[trade("Org01", "Org02")])).unwrap();
    let mut narrower = TRADE.clone();
    narrower["properties"]["price"] = json!({"maximum": 10});
    let narrow = run.sign(change(set(Some(0), &narrower, None)), &ADMINS[..3]);
    let held = parsed(&run, &narrow).verify(&run.ledger.registry).unwrap();
    assert_eq!(waiting.check_standing(&run.ledger.registry), Ok(()));
    // In the block in which it changes, the type is as the block before left it.
    let both = [SignedTransaction::clone(&narrow), record(&run, TRADER, 2, &[trade("Org01", "Org02")])];
    assert_eq!(run.commit(&both, &voters_keys()), [Outcome::Ok, Outcome::Ok]);
    drop(held);
    let refused = waiting.check_standing(&run.ledger.registry).unwrap_err();
    assert!(refused.to_string().contains("at /price: must be <=10, but got 27.18"), "{refused}");
}

#[test]
fn of_two_that_set_a_type_the_first_wins() {
    let mut run = Run::new(ConsensusMode::Bft);
    let schemas = [json!({"type": "object"}), json!({"type": "array"})];
    let new = schemas.each_ref().map(|schema| run.sign(change(set(None, schema, None)), &ADMINS[..3]));
    let outcomes = run.commit(&new, &voters_keys());
    assert_eq!(outcomes[0], Outcome::Ok);
    assert!(failed(&outcomes[1]).starts_with("record-type/trade is there already"), "{outcomes:?}");
    let changed = [json!(true), json!({})].map(|schema| run.sign(change(set(Some(0), &schema, None)), &ADMINS[..3]));
    let outcomes = run.commit(&changed, &voters_keys());
    assert_eq!(outcomes[0], Outcome::Ok);
    let stale = "record-type/trade has revision 1 by now, this is a change of revision 0; look at it and sign anew";
    assert_eq!(failed(&outcomes[1]), stale);
    let found = &run.ledger.registry.record_types[&name("trade")];
    assert_eq!((found.schema.content().to_json(), found.revision), (Ok(json!(true)), 1));
    let read = state::registry(&run.ledger.state, run.ledger.head.state_version, ConsensusMode::Bft).unwrap();
    assert_eq!(&read, &*run.ledger.registry, "the state says all of it");
}

fn put(registry: &mut Registry, at: &str, record_type: RecordType) {
    registry.put(Entry::RecordType(name(at), record_type));
}

#[test]
fn who_may_set_a_type_and_what_that_is_refused_for() {
    let admins = |count: usize| ADMINS[..count].iter().map(|(who, _)| identity(who)).collect::<Vec<_>>();
    let new = |policy| change(set(None, &TRADE, policy));
    let unendorsed = refused(&new(None), &admins(1));
    assert!(matches!(unendorsed, ChangeRefused::Policy { name: "policies", .. }), "{unendorsed}");
    let trader = refused(&new(None), &[identity(TRADER.0)]);
    assert!(matches!(trader, ChangeRefused::Role { roles: [Role::PolicyInvoker], .. }), "{trader}");
    let missing = refused(&change(set(Some(0), &TRADE, None)), &admins(3));
    assert_eq!(missing, ChangeRefused::Missing(EntryKey::RecordType(name("trade"))));
    let schema = refused(&change(set(None, &json!({"format": "date"}), None)), &admins(3));
    assert!(schema.to_string().contains("the keyword \"format\" at its top is not known"), "{schema}");
    let named = |count| Policy::All {
        all: vec![Policy::Named { organisation_in: "/x".into(), role: Role::Admin.into() }; count],
    };
    let pointer = Policy::Named { organisation_in: "x".into(), role: Role::Admin.into() };
    let nobody = Policy::Leaf { organisation: name("Org01"), role: Role::Auditor.into() };
    for (policy, says) in [
        (named(MAX_NAMED_PARTS + 1), "17 parts look into records"),
        (pointer, "is not a JSON pointer"),
        (nobody, "the policy of record type 'trade': it could never be met: nobody of Org01 is auditor"),
        (Policy::Any { any: vec![] }, "a list without parts"),
    ] {
        let refused = refused(&new(Some(policy)), &admins(3));
        assert!(refused.to_string().contains(says) && refused.kind() == "bad-policy", "{refused}");
    }
    assert!(apply(&new(Some(named(MAX_NAMED_PARTS))), &mut registry(), NOW).is_ok());

    let mut registry = registry();
    apply(&new(None), &mut registry, NOW).unwrap();
    let same = apply(&change(set(Some(0), &TRADE, None)), &mut registry, NOW);
    assert_eq!(same, Err(ChangeRefused::Nothing(EntryKey::RecordType(name("trade")))));
    let record_type = registry.record_types[&name("trade")].clone();
    (1..MAX_RECORD_TYPES).for_each(|n| put(&mut registry, &format!("t{n}"), record_type.clone()));
    let more = SetRecordType { name: name("more"), ..set(None, &json!({}), None) };
    let (count, limit) = (MAX_RECORD_TYPES + 1, MAX_RECORD_TYPES);
    let over = apply(&change(more), &mut registry, NOW);
    assert_eq!(over, Err(ChangeRefused::TooMany { what: "record types", count, limit }));
}

#[test]
fn a_type_keeps_whom_its_policy_needs_while_records_of_it_are_taken() {
    let mut registry = registry();
    let needs = Policy::Leaf { organisation: name("Org03"), role: Role::Auditor.into() };
    apply(&change(set(None, &TRADE, Some(needs.clone()))), &mut registry, NOW).unwrap();
    let gone = ChangeUser { standing: Some(Standing::Revoked), ..change_user(AUDITOR.0, 0) };
    let refused = apply(&Change::ChangeUser(gone.clone()), &mut registry, NOW).unwrap_err();
    let said = "the policy of record type 'trade': it could never be met: nobody of Org03 is auditor";
    assert_eq!(refused.to_string(), said);
    let removed = Change::RemoveOrganisation(RemoveOrganisation { organisation: name("Org03"), revision: 0 });
    let refused = apply(&removed, &mut registry, NOW).unwrap_err();
    assert!(refused.to_string().contains("record type 'trade': it could never be met: Org03 is no organ"), "{refused}");
    let suspended = SetRecordType { standing: Some(Standing::Suspended), ..set(Some(0), &TRADE, Some(needs.clone())) };
    apply(&change(suspended), &mut registry, NOW).unwrap();
    apply(&Change::ChangeUser(gone), &mut registry, NOW).expect("nothing that is in use needs it");
    let resumed = apply(&change(set(Some(1), &TRADE, Some(needs))), &mut registry, NOW);
    assert_eq!(resumed.unwrap_err().to_string(), said, "resumed, it would need it");
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z(){}\\\\?*+.|^$]{0,6}", "[a-zé/~]{0,3}"];
    let number = prop_oneof![
        (-3i64..3).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2.0f64..2.0).prop_map(Value::from),
        Just(json!(1e300))
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), text.prop_map(Value::from), number];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab/~]{1,2}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

const KEYWORDS: [&str; 38] = [
    "type",
    "enum",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "required",
    "dependentRequired",
    "not",
    "if",
    "then",
    "else",
    "allOf",
    "anyOf",
    "oneOf",
    "additionalProperties",
    "items",
    "contains",
    "propertyNames",
    "properties",
    "patternProperties",
    "dependentSchemas",
    "prefixItems",
    "title",
    "default",
    "examples",
    "deprecated",
    "$comment",
];

fn any_schema() -> impl Strategy<Value = Value> {
    let types = prop::sample::select(vec!["null", "boolean", "number", "integer", "string", "array", "object"]);
    let leaf =
        prop_oneof![any::<bool>().prop_map(Value::from), types.prop_map(|kind| json!({ "type": kind })), any_json()];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let value = prop_oneof![
            4 => inner.clone(),
            1 => any_json(),
            2 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            2 => prop::collection::btree_map("[ab/~^]{1,2}", inner, 0..3).prop_map(|map| json!(map)),
        ];
        prop::collection::btree_map(prop::sample::select(&KEYWORDS[..]), value, 0..4).prop_map(|map| json!(map))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No schema and no record makes the engine panic, and an answer is the same each time.
    #[test]
    fn any_schema_and_any_record_have_one_answer(schema in any_schema(), value in any_json()) {
        let content = Content::from_json(&value);
        let answer = || Schema::compile(&Content::from_json(&schema)).map(|schema| schema.check(std::slice::from_ref(&content)));
        prop_assert_eq!(answer(), answer());
    }
}

#[test]
fn every_keyword_that_the_random_schemas_use_is_known() {
    for keyword in KEYWORDS {
        let error = schema(&json!({ keyword: null })).err().unwrap_or_default();
        assert!(!error.contains("is not known here"), "{error}");
    }
}
