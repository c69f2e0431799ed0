//! The README shows who may author what, word for word as the rules have it.

use minidlt_protocol::governance::{RULES, Rule};

const README: &str = include_str!("../../../README.md");

fn row(rule: &Rule) -> String {
    let roles: Vec<String> = rule.roles.iter().map(|role| format!("`{role}`")).collect();
    let whose = if rule.same_organisation { ", of the same organisation" } else { "" };
    let author = if roles.is_empty() { "any member".into() } else { roles.join(" or ") };
    format!("| `{}` | {author}{whose} | {} |\n", rule.operation, rule.endorsed_by)
}

#[test]
fn the_readme_has_the_table_of_authors() {
    let head = "| operation | its author has the role | endorsed by |\n|---|---|---|\n";
    let table: String = head.to_owned() + &RULES.iter().map(row).collect::<String>();
    assert!(README.contains(&table), "README.md should have this table, word for word:\n\n{table}");
}
