//! What the file says of itself: metadata of the model, as texts or JSON.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::inputs::{
    AS_OF, AS_OF_MEANING, Column, Columns, HISTORY, HISTORY_MEANING, Holds, MATRIX,
};
use super::state::{IN_MEANING, STATE_IN};
use super::{Signature, Style};
use crate::bundle::Contents;
use crate::bundle::Identity;
use crate::error::{Kind, Result};

pub const DESCRIPTION: &str = "Churn model: raw columns in, calibrated risk out. The metadata \
    `schema` describes the inputs, `label` what the risk is the probability of.";
pub const RISK_MEANING: &str = "Calibrated probability of churn in the window of the label.";
pub const CURVE_MEANING: &str =
    "Risk of churn up to each month of the horizon; the last one is the risk.";

/// Keys and values of the model's metadata. `read` are the inputs that the model reads, `state` the
/// width of its state, if it has one.
///
/// # Errors
/// [`Kind::Internal`] if something cannot be written as JSON.
pub fn facts(
    contents: &Contents,
    identity: Identity,
    (style, columns): (Style, &Columns),
    (read, state): (&BTreeSet<&str>, Option<usize>),
) -> Result<Vec<(&'static str, String)>> {
    let model = &contents.model;
    let members: Vec<Value> = (model.members.iter())
        .map(|member| json!({ "name": member.name, "weight": member.weight }))
        .collect();
    let mut facts = vec![
        ("bundle_id", identity.bundle_id.to_owned()),
        ("model", identity.model.to_owned()),
        ("members", text(&members)?),
        ("signature", style.signature.name().to_owned()),
        ("schema", text(&schema(style.signature, columns, (read, state)))?),
        ("label", text(&model.label)?),
        ("calibration", text(&model.calibrator)?),
    ];
    facts.extend(style.unroll.map(|months| ("months", months.to_string())));
    Ok(facts)
}

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Kind::Internal.msg(error.to_string()))
}

fn schema(
    signature: Signature,
    columns: &Columns,
    (read, state): (&BTreeSet<&str>, Option<usize>),
) -> Value {
    let is_there = |name: &str| signature == Signature::Matrix || read.contains(name);
    let there = columns.all().filter(|column| is_there(&column.name));
    let mut all: Vec<Value> = there.map(|column| describe(column, signature)).collect();
    for (name, meaning) in [(HISTORY, HISTORY_MEANING), (AS_OF, AS_OF_MEANING)] {
        if signature != Signature::Matrix && is_there(name) {
            all.push(json!({
                "name": name, "holds": name, "type": "int64", "shape": ["N", 1], "meaning": meaning
            }));
        }
    }
    if let Some(width) = state {
        all.push(json!({
            "name": STATE_IN, "holds": "state", "type": "float32", "shape": ["N", width],
            "meaning": IN_MEANING
        }));
    }
    match signature {
        Signature::Columns | Signature::Step => json!({ "inputs": all }),
        Signature::Matrix => json!({
            "inputs": [{ "name": MATRIX, "type": "float32", "shape": ["N", all.len()] }],
            "columns": all
        }),
    }
}

fn describe(column: &Column, signature: Signature) -> Value {
    let by_name = signature != Signature::Matrix;
    let is_text = by_name && column.holds == Holds::Category;
    let meaning = match (by_name, column.holds) {
        (false, Holds::Category) => {
            "Code: 0 or NaN is missing, 1 any other value, 2 and up the values in their order."
                .to_owned()
        }
        _ => column.meaning(signature),
    };
    let mut described = json!({
        "name": column.name,
        "holds": column.holds,
        "type": if is_text { "string" } else { "float32" },
        "meaning": meaning,
    });
    if by_name {
        let over_months = column.monthly && signature == Signature::Columns;
        described["shape"] = json!(["N", if over_months { json!("T") } else { json!(1) }]);
    }
    if let Some(source) = &column.source {
        described["source"] = json!(source);
    }
    if column.holds == Holds::Category {
        described["values"] = json!(column.values);
    }
    described
}
