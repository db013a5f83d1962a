//! JSON as the watchdog writes and reads it.
//!
//! The writer gives the original's form: no blanks but one before an array, booleans as 0 and 1, members in
//! the order of the calls. Unlike the original it escapes strings; its reader undoes escapes.
//! The reader finds keys without regard to case, takes 0, 1, true and false for booleans, ignores what it
//! does not know and the NUL that some bodies end with.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{DecodeError, EncodeError};

pub(super) struct Writer {
    text: String,
}

impl Writer {
    pub fn new() -> Writer {
        Writer {
            text: "{".to_owned(),
        }
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        // Writing to a string never fails, here and below.
        let _ = write!(self.text, "\"{key}\":");
    }

    pub fn int(&mut self, key: &str, value: impl Into<i64>) -> &mut Writer {
        self.key(key);
        let _ = write!(self.text, "{}", value.into());
        self
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Writer {
        self.int(key, i64::from(value))
    }

    pub fn text(&mut self, key: &str, value: &str) -> &mut Writer {
        self.key(key);
        // The form of a JSON string is serde's business; a string always has one.
        let _ = write!(self.text, "{}", Value::from(value));
        self
    }

    pub fn optional_int(&mut self, key: &str, value: Option<impl Into<i64>>) -> &mut Writer {
        if let Some(value) = value {
            self.int(key, value);
        }
        self
    }

    pub fn optional_text(&mut self, key: &str, value: Option<&str>) -> &mut Writer {
        if let Some(value) = value {
            self.text(key, value);
        }
        self
    }

    pub fn ints(&mut self, key: &'static str, values: &[i64]) -> Result<&mut Writer, EncodeError> {
        let items = values.iter().map(ToString::to_string).collect();
        self.array(key, items)
    }

    pub fn objects(
        &mut self,
        key: &'static str,
        items: Vec<Writer>,
    ) -> Result<&mut Writer, EncodeError> {
        let items: Result<Vec<String>, EncodeError> = items.into_iter().map(Writer::end).collect();
        self.array(key, items?)
    }

    fn array(&mut self, key: &'static str, items: Vec<String>) -> Result<&mut Writer, EncodeError> {
        if items.is_empty() {
            return Err(EncodeError::Empty(key));
        }
        self.key(key);
        let _ = write!(self.text, " [{}]", items.join(","));
        Ok(self)
    }

    pub fn end(mut self) -> Result<String, EncodeError> {
        if self.text.len() == 1 {
            return Err(EncodeError::Empty("the object"));
        }
        self.text.push('}');
        Ok(self.text)
    }
}

/// A JSON object that was received.
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub fn parse(bytes: &[u8]) -> Result<Object, DecodeError> {
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Object(map)),
            Ok(_) => Err(DecodeError::NotJson("it is another value".to_owned())),
            Err(error) => Err(DecodeError::NotJson(error.to_string())),
        }
    }

    fn find(&self, key: &str) -> Option<&Value> {
        let folded = || {
            let mut members = self.0.iter();
            members.find(|(name, _)| name.eq_ignore_ascii_case(key))
        };
        self.0
            .get(key)
            .or_else(|| folded().map(|(_, value)| value))
            .filter(|value| !value.is_null())
    }

    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub fn optional_text(&self, key: &'static str) -> Result<Option<String>, DecodeError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(key, "a string")),
        }
    }

    pub fn text(&self, key: &'static str) -> Result<String, DecodeError> {
        self.optional_text(key)?.ok_or(DecodeError::Missing(key))
    }

    pub fn optional_int<T: TryFrom<i64>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        match self.find(key) {
            None => Ok(None),
            Some(value) => int(key, value).map(Some),
        }
    }

    pub fn int<T: TryFrom<i64>>(&self, key: &'static str) -> Result<T, DecodeError> {
        self.optional_int(key)?.ok_or(DecodeError::Missing(key))
    }

    pub fn bool(&self, key: &'static str) -> Result<bool, DecodeError> {
        match self.find(key) {
            None => Err(DecodeError::Missing(key)),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => int::<i64>(key, value).map(|number| number != 0),
        }
    }

    pub fn optional_bool(&self, key: &'static str) -> Result<Option<bool>, DecodeError> {
        match self.find(key) {
            None => Ok(None),
            Some(_) => self.bool(key).map(Some),
        }
    }

    pub fn ints<T: TryFrom<i64>>(&self, key: &'static str) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(items) = self.array(key)? else {
            return Ok(None);
        };
        let items: Result<Vec<T>, DecodeError> = items.iter().map(|item| int(key, item)).collect();
        items.map(Some)
    }

    pub fn objects(&self, key: &'static str) -> Result<Option<Vec<Object>>, DecodeError> {
        let Some(items) = self.array(key)? else {
            return Ok(None);
        };
        let object = |item: &Value| match item {
            Value::Object(map) => Ok(Object(map.clone())),
            _ => Err(invalid(key, "an array of objects")),
        };
        let items: Result<Vec<Object>, DecodeError> = items.iter().map(object).collect();
        items.map(Some)
    }

    fn array(&self, key: &'static str) -> Result<Option<&Vec<Value>>, DecodeError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(invalid(key, "an array")),
        }
    }
}

fn int<T: TryFrom<i64>>(key: &'static str, value: &Value) -> Result<T, DecodeError> {
    let number = value.as_i64().ok_or(invalid(key, "a whole number"))?;
    T::try_from(number).map_err(|_| invalid(key, "in its range"))
}

fn invalid(key: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::Invalid { key, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crashes_the_original_is_never_written() {
        assert_eq!(Writer::new().end(), Err(EncodeError::Empty("the object")));
        let mut writer = Writer::new();
        assert!(writer.ints("NodeIdList", &[]).is_err());
        assert!(writer.objects("wd_nodes", Vec::new()).is_err());
        assert!(writer.objects("wd_nodes", vec![Writer::new()]).is_err());
    }

    #[test]
    fn strings_are_escaped_so_that_a_quote_in_a_name_stays_in_it() {
        let mut writer = Writer::new();
        writer.text("HostName", "a\"b\\c").int("WdPort", 9000);
        let text = writer.end().unwrap();
        assert_eq!(text, r#"{"HostName":"a\"b\\c","WdPort":9000}"#);
        let object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!(object.text("hostname").unwrap(), "a\"b\\c");
    }

    #[test]
    fn booleans_come_in_two_forms_and_keys_in_any_case() {
        let object = Object::parse(b"{\"a\":true,\"B\":0,\"c\":1.0,\"d\":null}\0").unwrap();
        assert_eq!(object.bool("A"), Ok(true));
        assert_eq!(object.bool("b"), Ok(false));
        assert!(object.bool("c").is_err());
        assert!(!object.has("d"));
        assert_eq!(object.int::<i32>("d"), Err(DecodeError::Missing("d")));
    }
}
