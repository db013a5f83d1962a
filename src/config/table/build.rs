//! Short words for the rows of the table.

use crate::config::{
    Release,
    parameter::{Context, Indexed, Kind, Parameter, Unit},
};

pub(super) const INT_MAX: i64 = i32::MAX as i64;

const fn row(name: &'static str, group: &'static str, context: Context, kind: Kind) -> Parameter {
    Parameter {
        name,
        indexed: Indexed::No,
        max_index: 0,
        kind,
        context,
        context_before: None,
        group,
        secret: false,
        hidden: false,
        ours: false,
        first: Some(Release::V3_7),
        last: Release::V4_7,
        defaults: &[],
        debian_default: None,
        counterparts: &[],
        description: "",
        help: "",
    }
}

pub(super) const fn bool(name: &'static str, group: &'static str, context: Context) -> Parameter {
    row(name, group, context, Kind::Bool)
}

pub(super) const fn int(
    name: &'static str,
    group: &'static str,
    context: Context,
    min: i64,
    max: i64,
    unit: Unit,
) -> Parameter {
    row(name, group, context, Kind::Int { min, max, unit })
}

pub(super) const fn real(
    name: &'static str,
    group: &'static str,
    context: Context,
    min: f64,
    max: f64,
) -> Parameter {
    row(name, group, context, Kind::Real { min, max })
}

pub(super) const fn text(name: &'static str, group: &'static str, context: Context) -> Parameter {
    row(name, group, context, Kind::Text)
}

pub(super) const fn list(
    name: &'static str,
    group: &'static str,
    context: Context,
    separator: char,
) -> Parameter {
    row(name, group, context, Kind::List { separator })
}

pub(super) const fn choice(
    name: &'static str,
    group: &'static str,
    context: Context,
    words: &'static [(&'static str, i64)],
) -> Parameter {
    row(name, group, context, Kind::Enum(words))
}

/// A name for `PGPOOL SHOW` only.
pub(super) const fn group(name: &'static str) -> Parameter {
    row(name, name, Context::Internal, Kind::Group)
}

/// A name that was gone before 3.7; `last` is the last release that had it.
pub(super) const fn legacy(name: &'static str, last: Release) -> Parameter {
    let mut row = row(name, "legacy", Context::Startup, Kind::Text);
    row.first = None;
    row.last = last;
    row
}

impl Parameter {
    pub(super) const fn indexed(mut self, max: usize) -> Parameter {
        self.indexed = Indexed::Required;
        self.max_index = max;
        self
    }

    pub(super) const fn optionally_indexed(mut self, max: usize) -> Parameter {
        self.indexed = Indexed::Optional;
        self.max_index = max;
        self
    }

    pub(super) const fn defaults(
        mut self,
        defaults: &'static [(Release, Option<&'static str>)],
    ) -> Parameter {
        self.defaults = defaults;
        self
    }

    pub(super) const fn debian_default(mut self, path: &'static str) -> Parameter {
        self.debian_default = Some(path);
        self
    }

    pub(super) const fn context_before(mut self, release: Release, context: Context) -> Parameter {
        self.context_before = Some((release, context));
        self
    }

    pub(super) const fn first(mut self, release: Release) -> Parameter {
        self.first = Some(release);
        self
    }

    pub(super) const fn last(mut self, release: Release) -> Parameter {
        self.last = release;
        self
    }

    pub(super) const fn secret(mut self) -> Parameter {
        self.secret = true;
        self
    }

    pub(super) const fn hidden(mut self) -> Parameter {
        self.hidden = true;
        self
    }

    pub(super) const fn ours(mut self) -> Parameter {
        self.ours = true;
        self.hidden = true;
        self
    }

    pub(super) const fn counterparts(mut self, names: &'static [&'static str]) -> Parameter {
        self.counterparts = names;
        self
    }

    pub(super) const fn description(mut self, text: &'static str) -> Parameter {
        self.description = text;
        self
    }

    pub(super) const fn help(mut self, text: &'static str) -> Parameter {
        self.help = text;
        self
    }
}
