//! What the next process has to know: one line of a small file beside `pgpool_status`.

use crate::watchdog::codec::message::{Picture, Reign};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub lease_is_on: bool,
    /// The highest that was heard of.
    pub reign: Reign,
    /// That of `pgpool_status`.
    pub picture: Picture,
}

impl Memory {
    /// The contents of the file. They have to be on disk before anything else is sent.
    pub fn text(&self) -> String {
        let on = if self.lease_is_on { "on" } else { "off" };
        let (reign, picture) = (self.reign, self.picture);
        format!(
            "write lease {on}, reign {} of node {}, picture {} of reign {} of node {}\n",
            reign.number, reign.node, picture.change, picture.reign.number, picture.reign.node
        )
    }

    /// `None`: the text is none of [`Memory::text`].
    pub fn parse(text: &str) -> Option<Memory> {
        let rest = text.trim().strip_prefix("write lease ")?;
        let (on, rest) = rest.split_once(", ")?;
        let numbers: Vec<u32> = rest
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let [number, node, change, picture_number, picture_node] = numbers[..] else {
            return None;
        };
        Some(Memory {
            lease_is_on: match on {
                "on" => true,
                "off" => false,
                _ => return None,
            },
            reign: Reign { number, node },
            picture: Picture {
                reign: Reign {
                    number: picture_number,
                    node: picture_node,
                },
                change,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nonsense_is_nothing() {
        let memory = Memory {
            lease_is_on: true,
            reign: Reign { number: 7, node: 2 },
            picture: Picture {
                reign: Reign { number: 6, node: 0 },
                change: 3,
            },
        };
        let text = memory.text();
        assert_eq!(Memory::parse(&text), Some(memory));
        let off = Memory::default();
        assert_eq!(Memory::parse(&off.text()), Some(off));
        for nonsense in [
            "",
            "write lease on",
            "write lease maybe, reign 1 of node 1, picture 1 of reign 1 of node 1",
            "write lease on, reign 99999999999 of node 1, picture 1 of reign 1 of node 1",
        ] {
            assert_eq!(Memory::parse(nonsense), None, "{nonsense}");
        }
    }
}
