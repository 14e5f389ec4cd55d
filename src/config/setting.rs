//! What a setting is: its type, default and bounds, and how a text is checked against them. Values stay text; the
//! messages are the ones Kafka's clients and operators know.

/// Kafka's value types. The number is what DescribeConfigs carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// What is allowed beyond the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    OneOf(&'static [&'static str]),
    OneOfIgnoreCase(&'static [&'static str]),
    NonEmpty,
    /// A list of these (no names: of anything); whether it may be empty.
    ListOf(&'static [&'static str], bool),
    /// 1 to 9, or -1 for the codec's default.
    GzipLevel,
    /// `*`, or partition:broker pairs.
    ThrottledReplicas,
    /// latest, earliest, or by_duration: and an ISO-8601 duration.
    OffsetReset,
}

/// Whether a broker setting may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    No,
    PerBroker,
    ClusterWide,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// None: null, or (node.id, process.roles, controller.listener.names) no default in Kafka.
    pub default: Option<&'static str>,
    pub rule: Rule,
    pub dynamic: Dynamic,
    /// Topic and group settings: the broker setting that holds the default; else empty.
    pub synonym: &'static str,
    /// One line for DescribeConfigs. A broker setting without one is accepted and has no effect yet.
    pub doc: &'static str,
}

impl Setting {
    const fn new(name: &'static str, kind: Kind, default: Option<&'static str>) -> Setting {
        let rule = if matches!(kind, Kind::List) { Rule::ListOf(&[], true) } else { Rule::Any };
        Setting { name, kind, default, rule, dynamic: Dynamic::No, synonym: "", doc: "" }
    }
    pub(super) const fn rule(self, rule: Rule) -> Setting {
        Setting { rule, ..self }
    }
    pub(super) const fn at_least(self, min: i64) -> Setting {
        self.rule(Rule::AtLeast(min))
    }
    pub(super) const fn between(self, min: i64, max: i64) -> Setting {
        self.rule(Rule::Between(min, max))
    }
    pub(super) const fn one_of(self, names: &'static [&'static str]) -> Setting {
        self.rule(Rule::OneOf(names))
    }
    pub(super) const fn cluster_wide(self) -> Setting {
        Setting { dynamic: Dynamic::ClusterWide, ..self }
    }
    pub(super) const fn per_broker(self) -> Setting {
        Setting { dynamic: Dynamic::PerBroker, ..self }
    }
    pub(super) const fn synonym(self, synonym: &'static str) -> Setting {
        Setting { synonym, ..self }
    }
    pub(super) const fn doc(self, doc: &'static str) -> Setting {
        Setting { doc, ..self }
    }

    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    pub fn is_read_only(&self) -> bool {
        self.dynamic == Dynamic::No
    }

    /// The value as Kafka shows it once parsed (trimmed, numbers normalised, repeated list entries dropped), or why it
    /// is not allowed.
    pub fn parse(&self, text: &str) -> Result<String, String> {
        let parsed = self.parse_kind(text)?;
        self.check_rule(&parsed)?;
        Ok(parsed)
    }

    fn invalid(&self, value: &str, why: impl std::fmt::Display) -> String {
        let value = if self.is_sensitive() { "[hidden]" } else { value };
        format!("Invalid value {value} for configuration {}: {why}", self.name)
    }

    fn parse_kind(&self, text: &str) -> Result<String, String> {
        let trimmed = trim(text);
        let number = |parsed: Option<String>| {
            parsed.ok_or_else(|| self.invalid(text, format_args!("Not a number of type {}", self.kind.name())))
        };
        match self.kind {
            Kind::Boolean => match trimmed.to_ascii_lowercase().as_str() {
                parsed @ ("true" | "false") => Ok(parsed.to_owned()),
                _ => Err(self.invalid(text, "Expected value to be either true or false")),
            },
            Kind::Int => number(trimmed.parse::<i32>().ok().map(|n| n.to_string())),
            Kind::Short => number(trimmed.parse::<i16>().ok().map(|n| n.to_string())),
            Kind::Long => number(trimmed.parse::<i64>().ok().map(|n| n.to_string())),
            Kind::Double => number(parse_double(trimmed).map(show_double)),
            Kind::List => self.parse_list(trimmed),
            Kind::String | Kind::Class | Kind::Password => Ok(trimmed.to_owned()),
        }
    }

    fn parse_list(&self, text: &str) -> Result<String, String> {
        let mut entries: Vec<&str> = Vec::new();
        for entry in split_list(text) {
            if entry.is_empty() && self.rule != Rule::ThrottledReplicas {
                return Err(format!("Configuration '{}' values must not be empty.", self.name));
            }
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        Ok(entries.join(","))
    }

    fn check_rule(&self, value: &str) -> Result<(), String> {
        let at_least = |min: i64| match parse_double(value) {
            Some(n) if n < min as f64 => Err(self.invalid(value, format_args!("Value must be at least {min}"))),
            _ => Ok(()),
        };
        match self.rule {
            Rule::Any => Ok(()),
            Rule::AtLeast(min) => at_least(min),
            Rule::Between(min, max) => at_least(min).and_then(|()| match parse_double(value) {
                Some(n) if n > max as f64 => Err(self.invalid(value, format_args!("Value must be no more than {max}"))),
                _ => Ok(()),
            }),
            Rule::OneOf(names) if names.contains(&value) => Ok(()),
            Rule::OneOf(names) => Err(self.invalid(value, one_of(names))),
            Rule::OneOfIgnoreCase(names) if names.iter().any(|n| n.eq_ignore_ascii_case(value)) => Ok(()),
            Rule::OneOfIgnoreCase(names) => {
                let why = format!("String must be one of (case insensitive): {}", names.join(", "));
                Err(self.invalid(value, why))
            }
            Rule::NonEmpty if value.is_empty() => Err(self.invalid(value, "String must be non-empty")),
            Rule::NonEmpty => Ok(()),
            Rule::ListOf(names, empty_allowed) => self.check_list(value, names, empty_allowed),
            Rule::GzipLevel => match value.parse::<i32>() {
                Ok(-1 | 1..=9) => Ok(()),
                _ => Err(self.invalid(value, "Value must be between 1 and 9 or equal to -1")),
            },
            Rule::ThrottledReplicas => self.check_throttled_replicas(value),
            Rule::OffsetReset => match value {
                "latest" | "earliest" => Ok(()),
                _ if value.strip_prefix("by_duration:").is_some_and(is_iso_duration) => Ok(()),
                _ => Err(self.invalid(value, "Value must be latest, earliest or by_duration:PnDTnHnMn.nS")),
            },
        }
    }

    fn check_list(&self, value: &str, names: &[&str], empty_allowed: bool) -> Result<(), String> {
        if value.is_empty() && !empty_allowed {
            let valid = if names.is_empty() { "any non-empty value".to_owned() } else { names.join(", ") };
            return Err(format!("Configuration '{}' must not be empty. Valid values include: {valid}", self.name));
        }
        match split_list(value).find(|entry| !names.is_empty() && !names.contains(entry)) {
            Some(entry) => Err(self.invalid(entry, one_of(names))),
            None => Ok(()),
        }
    }

    fn check_throttled_replicas(&self, value: &str) -> Result<(), String> {
        let is_id = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_pair = |text: &str| text.split_once(':').is_some_and(|(partition, id)| is_id(partition) && is_id(id));
        if value == "*" || split_list(value).all(|entry| entry.is_empty() || is_pair(entry)) {
            return Ok(());
        }
        let shown = format!("[{}]", split_list(value).collect::<Vec<_>>().join(", "));
        let why = format!(
            "{} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            self.name
        );
        Err(self.invalid(&shown, why))
    }
}

fn one_of(names: &[&str]) -> String {
    format!("String must be one of: {}", names.join(", "))
}

/// Java's String.trim.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// The entries of a comma separated list; none when it is empty.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let entries = if text.is_empty() { None } else { Some(text.split(',').map(trim)) };
    entries.into_iter().flatten()
}

fn parse_double(text: &str) -> Option<f64> {
    let plain = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    // Java knows these two words, in this spelling only; Rust reads more.
    if unsigned.starts_with(|c: char| c.is_ascii_alphabetic()) && !matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return None;
    }
    plain.parse().ok()
}

/// As Java's Double.toString: plain between 10^-3 and 10^7, else with an exponent.
fn show_double(n: f64) -> String {
    if n.is_infinite() {
        return if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if n == 0.0 || n.is_nan() || (1e-3..1e7).contains(&n.abs()) {
        return format!("{n:?}");
    }
    let text = format!("{n:E}");
    let (digits, exponent) = text.split_once('E').expect("an exponent");
    if digits.contains('.') { text } else { format!("{digits}.0E{exponent}") }
}

/// A positive ISO-8601 duration with days at most: PnDTnHnMn.nS.
fn is_iso_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    let consumed = |mut part: &str, units: &[char]| {
        let mut any = false;
        for &unit in units {
            if let Some((number, left)) = part.split_once(unit) {
                let digits = |c: char| c.is_ascii_digit() || (c == '.' && unit == 'S');
                if number.is_empty() || !number.chars().all(digits) {
                    return None;
                }
                (part, any) = (left, true);
            }
        }
        part.is_empty().then_some(any)
    };
    match (consumed(date, &['D']), time.map(|time| consumed(time, &['H', 'M', 'S']))) {
        (Some(days), None) => days,
        (Some(_), Some(Some(clock))) => clock,
        _ => false,
    }
}

/// `setting(Kind::Int, "a.b.ms", "100")`.
pub(super) const fn setting(kind: Kind, name: &'static str, default: &'static str) -> Setting {
    Setting::new(name, kind, Some(default))
}

/// A setting whose default is null.
pub(super) const fn unset(kind: Kind, name: &'static str) -> Setting {
    Setting::new(name, kind, None)
}
