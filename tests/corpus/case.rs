//! One death of known cause, and what is right to say about it.

/// As whom a case runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// As root, if we are, and as an ordinary user.
    Both,
    /// Needs privileges.
    Root,
    /// A limit or permission that does not bind root.
    User,
}

/// One death.
pub struct Case {
    pub name: String,
    /// The true cause.
    pub cause: String,
    /// A script of sh that lets childminder run the job; see `PRELUDE`.
    pub script: String,
    /// The verdicts that are right.
    right: Vec<Right>,
    /// Of each, words divided by `|`, one must be in the line.
    says: Vec<&'static str>,
    /// None of these words may be in it.
    never: Vec<&'static str>,
    /// childminder's exit status.
    status: Option<i32>,
    pub who: Who,
    /// A command without which it cannot be made.
    pub tool: Option<&'static str>,
    /// Whether no other case may run meanwhile: it moves counters of the whole host.
    pub is_alone: bool,
}

/// A kind with the confidences that its evidence allows.
struct Right {
    kind: &'static str,
    confidences: Vec<&'static str>,
}

/// How one case came out.
pub enum Outcome {
    Right,
    Wrong(String),
    /// A kind that is wrong and said to be certain.
    WrongAndCertain(String),
}

/// Begins a case. `right` has alternatives divided by `|`, each a kind and the confidences that are
/// right with it: `oom_killed certain likely | unknown possible`.
pub fn case(name: impl Into<String>, cause: &str, right: &'static str, script: &str) -> Case {
    let alternative = |text: &'static str| {
        let mut words = text.split_ascii_whitespace();
        let kind = words.next().expect("a kind");
        let confidences: Vec<&str> = words.collect();
        assert!(!confidences.is_empty(), "{kind} with which confidence?");
        Right { kind, confidences }
    };
    Case {
        name: name.into(),
        cause: cause.to_owned(),
        script: script.to_owned(),
        right: right.split('|').map(alternative).collect(),
        says: Vec::new(),
        never: Vec::new(),
        status: None,
        who: Who::Both,
        tool: None,
        is_alone: false,
    }
}

impl Case {
    pub fn says(mut self, words: &'static str) -> Case {
        self.says.push(words);
        self
    }

    pub fn never(mut self, words: &'static str) -> Case {
        self.never.push(words);
        self
    }

    pub fn status(self, status: i32) -> Case {
        Case { status: Some(status), ..self }
    }

    pub fn root(self) -> Case {
        Case { who: Who::Root, ..self }
    }

    pub fn user(self) -> Case {
        Case { who: Who::User, ..self }
    }

    pub fn alone(self) -> Case {
        Case { is_alone: true, ..self }
    }

    pub fn tool(self, tool: &'static str) -> Case {
        Case { tool: Some(tool), ..self }
    }

    /// What is right, for whoever reads the list.
    pub fn expected(&self) -> String {
        let right: Vec<String> = self
            .right
            .iter()
            .map(|right| format!("{} ({})", right.kind, right.confidences.join(",")))
            .collect();
        right.join(" or ")
    }

    /// Compares a verdict line (`KIND (CONFIDENCE): EVIDENCE`) and an exit status with what is right.
    pub fn judge(&self, verdict: &str, status: Option<i32>) -> Outcome {
        let (kind, rest) = verdict.split_once(" (").unwrap_or((verdict, ""));
        let confidence = rest.split(')').next().unwrap_or_default();
        let Some(right) = self.right.iter().find(|right| right.kind == kind) else {
            let text = format!("the kind, right is {}", self.expected());
            return match confidence {
                "certain" => Outcome::WrongAndCertain(text),
                _ => Outcome::Wrong(text),
            };
        };
        if !right.confidences.contains(&confidence) {
            return Outcome::Wrong(format!("the confidence, right is {}", self.expected()));
        }
        let line = verdict.to_lowercase();
        let has = |word: &str| line.contains(&word.to_lowercase());
        if let Some(missing) = self.says.iter().find(|words| !words.split('|').any(has)) {
            return Outcome::Wrong(format!("it does not say '{missing}'"));
        }
        if let Some(word) = self.never.iter().find(|word| has(word)) {
            return Outcome::Wrong(format!("it says '{word}'"));
        }
        match (self.status, status) {
            (Some(expected), Some(got)) if expected != got => {
                Outcome::Wrong(format!("the exit status {got}, right is {expected}"))
            }
            _ => Outcome::Right,
        }
    }
}
