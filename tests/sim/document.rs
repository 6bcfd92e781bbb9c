//! Documents: clients that write to the same ones at once, each with a copy it changes by what it is told and by nothing else.
//!
//! Checked: a client that has a document open hears of each version once, in order; whoever has seen a version has seen the same fields;
//! at rest everybody who has it open has the newest.

use crate::client::Request;
use crate::world::World;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantcast::shard::DocumentSettings;
use tenantcast::shard::document::{DocumentRule, Strategy};
use tenantcast::wire::auth::Pattern;

/// Every tenant has these, each with another strategy.
const DOCUMENTS: [(&str, Strategy); 3] =
    [("last", Strategy::LastWriteWins), ("reject", Strategy::Reject), ("manual", Strategy::Manual)];
const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

pub type Fields = BTreeMap<String, Value>;

/// A client's copy.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// It was told what the document is, and hears of every change since.
    pub open: bool,
    version: u64,
    epoch: Option<String>,
    fields: Fields,
}

pub fn settings() -> DocumentSettings {
    let rule = |(id, strategy)| {
        let rule = DocumentRule { strategy, ..DocumentRule::default() };
        (Pattern::parse(id).expect("a plain name"), rule)
    };
    DocumentSettings { rules: DOCUMENTS.into_iter().map(rule).collect() }
}

fn object(value: &Value) -> Fields {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl World {
    pub fn act_on_document(&mut self, c: usize) {
        let (document, strategy) = DOCUMENTS[self.acting.below(3) as usize];
        let copy = self.clients[c].documents.entry(document.to_owned()).or_default().clone();
        let asked = |request: &Request| matches!(request, Request::Open { document: asked } if asked == document);
        if !copy.open {
            if !self.clients[c].pending.values().any(asked) {
                let request = Request::Open { document: document.to_owned() };
                self.emit(c, "document:open", &json!({ "document": document }), request);
            }
            return;
        }
        if self.acting.below(12) == 0 {
            self.clients[c].documents.remove(document);
            return self.emit(c, "document:close", &json!({ "document": document }), Request::Other);
        }
        let tenant = self.clients[c].tenant;
        let value = |n| json!({ "t": format!("t{tenant}"), "n": n });
        let sent: Fields = (0..=self.acting.below(3))
            .map(|_| (FIELDS[self.acting.below(4) as usize].to_owned(), value(self.acting.below(5))))
            .collect();
        // Now and then on a version that others have left behind.
        let base = copy.version - self.acting.below(4).min(copy.version);
        let timestamp = self.now.unix.0 - self.acting.below(3000);
        let mut argument = json!({ "document": document, "baseVersion": base, "fields": sent, "timestamp": timestamp });
        if let Some(epoch) = &copy.epoch {
            argument["epoch"] = json!(epoch);
        }
        let decides = strategy == Strategy::Manual && self.acting.below(4) == 0;
        let event = if decides { "conflict:resolve" } else { "document:update" };
        for _ in 0..1 + u64::from(self.acting.below(6) == 0) {
            let request = Request::Write { document: document.to_owned(), sent: sent.clone(), strategy, decides };
            self.emit(c, event, &argument, request);
        }
    }

    /// What the document is: everything before that is forgotten.
    pub fn document_opened(&mut self, c: usize, document: String, answer: &Value) {
        let copy = Copy {
            open: true,
            version: answer["version"].as_u64().unwrap_or(u64::MAX),
            epoch: answer["epoch"].as_str().map(str::to_owned),
            fields: object(&answer["fields"]),
        };
        self.clients[c].documents.insert(document.clone(), copy);
        self.saw_document(c, &document);
    }

    pub fn document_updated(&mut self, c: usize, data: &Value) {
        let (tenant, who) = (self.clients[c].tenant, self.clients[c].name.clone());
        self.only_of(tenant, &data.to_string());
        let document = data["document"].as_str().unwrap_or("").to_owned();
        let Some(copy) = self.clients[c].documents.get_mut(&document).filter(|copy| copy.open) else { return };
        if data["version"] != copy.version + 1 || copy.epoch.as_ref().is_some_and(|epoch| data["epoch"] != *epoch) {
            let what = format!("{who} has version {} of {document} and is told {data}", copy.version);
            return self.fail(what);
        }
        copy.version += 1;
        copy.epoch = data["epoch"].as_str().map(str::to_owned);
        copy.fields.extend(object(&data["fields"]));
        self.saw_document(c, &document);
    }

    pub fn document_disputed(&mut self, c: usize, data: &Value) {
        self.only_of(self.clients[c].tenant, &data.to_string());
        let fields = data["conflictedFields"].as_array().map_or(0, Vec::len);
        if fields == 0
            || object(&data["incomingValue"]).len() != fields
            || object(&data["originalValue"]).len() != fields
        {
            self.fail(format!("a conflict about nothing: {data}"));
        }
        self.model.disputes += 1;
    }

    pub fn document_written(&mut self, c: usize, request: Request, answer: &Value) {
        let Request::Write { document, sent, strategy, decides } = request else { return };
        let (code, who) = (answer["code"].as_str(), self.clients[c].name.clone());
        let Some(copy) = self.clients[c].documents.get_mut(&document).filter(|copy| copy.open) else { return };
        match code {
            None | Some("conflict") => {}
            Some("rate_limited" | "unknown_conflict" | "unknown_document" | "too_many_conflicts") => return,
            Some("version_too_old") => {
                copy.open = false;
                return;
            }
            Some(_) => return self.fail(format!("{document} is not written: {answer}")),
        }
        let version = answer["version"].as_u64().unwrap_or(u64::MAX);
        let refused = code.is_some() && (decides || strategy == Strategy::Reject);
        if version > copy.version + u64::from(!refused) {
            let what = format!("{who}: {document}, after version {}: {answer}", copy.version);
            return self.fail(what);
        }
        // Where it is not the next version nothing was written, or it was written before and is told again.
        if version == copy.version + 1 {
            let disputed = |name: &str| {
                let fields = answer["conflictedFields"].as_array();
                code.is_some() && fields.into_iter().flatten().any(|field| field == name)
            };
            copy.version = version;
            copy.epoch = answer["epoch"].as_str().map(str::to_owned);
            copy.fields.extend(sent.into_iter().filter(|(name, _)| !disputed(name)));
            copy.fields.extend(object(&answer["fields"]));
            self.model.written += 1;
        }
        self.saw_document(c, &document);
    }

    /// Whoever has a version has the same.
    fn saw_document(&mut self, c: usize, document: &str) {
        let client = &self.clients[c];
        let Some(copy) = client.documents.get(document) else { return };
        let Some(epoch) = copy.epoch.clone().filter(|_| copy.version > 0) else { return };
        let place = (client.tenant, document.to_owned(), epoch, copy.version);
        let known = self.model.documents.entry(place).or_insert_with(|| copy.fields.clone());
        if *known != copy.fields {
            let what = format!("{} has {copy:?} of {document}, others have {known:?}", client.name);
            self.fail(what);
        }
    }

    /// Everybody who has a document open has its newest version.
    pub fn check_documents(&mut self) {
        for c in 0..self.clients.len() {
            let client = &self.clients[c];
            for (document, copy) in client.documents.iter().filter(|(_, copy)| copy.open && client.live) {
                let here = |place: &&(usize, String, String, u64)| place.0 == client.tenant && place.1 == *document;
                let newest = self.model.documents.keys().filter(here).map(|place| place.3).max().unwrap_or(0);
                if copy.version != newest {
                    let what = format!("{} has {copy:?} of {document}, the newest is {newest}", client.name);
                    return self.fail(what);
                }
            }
        }
    }
}
