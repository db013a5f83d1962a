//! The keywords that routing tells apart.

/// Keywords of queries, and the words that statements begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// An identifier, or a keyword that means nothing to us.
    None,
    /// A word of the grammar that is neither a name nor a function: AND, CASE, LIKE ...
    Word,
    /// A built-in type or construct that takes parentheses and is no function: NUMERIC, COALESCE ...
    Construct,
    /// A function by syntax of its own: EXTRACT, POSITION, SUBSTRING, OVERLAY, TRIM.
    SyntaxFunction,
    /// An operator in words that the parser turns into a function: AT TIME ZONE, SIMILAR TO, OVERLAPS.
    Sugar,
    /// Not reserved, followed by parentheses in the grammar: OVER, FILTER, ESCAPE ...
    Syntax,
    Abort,
    Analyze,
    As,
    Begin,
    By,
    Call,
    Close,
    Commit,
    Copy,
    Create,
    Deallocate,
    Declare,
    Delete,
    Discard,
    Distinct,
    Do,
    Drop,
    End,
    Execute,
    Explain,
    Fetch,
    For,
    From,
    Insert,
    Into,
    Is,
    Join,
    Lateral,
    Lock,
    Merge,
    Move,
    Not,
    On,
    Only,
    Ordinality,
    Prepare,
    Recursive,
    Release,
    Reset,
    Rollback,
    Rows,
    Savepoint,
    Select,
    Set,
    Show,
    Start,
    Table,
    TableSample,
    Truncate,
    /// UNION, INTERSECT, EXCEPT, ALL.
    SetOperation,
    Update,
    Using,
    Values,
    With,
    /// What ends a FROM clause: WHERE, GROUP, HAVING, ORDER, LIMIT, OFFSET, WINDOW, RETURNING.
    Clause,
}

const LONGEST: usize = 17;

/// Which keyword an unquoted word is.
pub(super) fn keyword(word: &[u8]) -> Keyword {
    use Keyword as K;
    if word.len() < 2 || word.len() > LONGEST {
        return K::None;
    }
    let mut lower = [0; LONGEST];
    for (to, from) in lower.iter_mut().zip(word) {
        *to = from.to_ascii_lowercase();
    }
    match lower.get(..word.len()).unwrap_or_default() {
        b"as" => K::As,
        b"by" => K::By,
        b"do" => K::Do,
        b"is" => K::Is,
        b"on" => K::On,
        b"at" => K::Sugar,
        b"in" | b"or" => K::Word,
        b"all" => K::SetOperation,
        b"and" | b"any" | b"asc" => K::Word,
        b"end" => K::End,
        b"for" => K::For,
        b"not" => K::Not,
        b"set" => K::Set,
        b"bit" | b"dec" | b"int" | b"row" => K::Construct,
        b"both" | b"case" | b"cast" | b"desc" | b"else" | b"full" | b"like" | b"null" | b"some"
        | b"then" | b"true" | b"user" | b"when" | b"zone" => K::Word,
        b"left" => K::Word,
        b"call" => K::Call,
        b"char" | b"real" | b"time" => K::Construct,
        b"copy" => K::Copy,
        b"drop" => K::Drop,
        b"from" => K::From,
        b"into" => K::Into,
        b"join" => K::Join,
        b"lock" => K::Lock,
        b"move" => K::Move,
        b"only" => K::Only,
        b"over" | b"sets" => K::Syntax,
        b"rows" => K::Rows,
        b"show" => K::Show,
        b"trim" => K::SyntaxFunction,
        b"with" => K::With,
        b"abort" => K::Abort,
        b"array" | b"check" | b"cross" | b"false" | b"grant" | b"ilike" | b"inner" | b"outer"
        | b"right" => K::Word,
        b"begin" => K::Begin,
        b"close" => K::Close,
        b"fetch" => K::Fetch,
        b"float" | b"least" | b"nchar" | b"treat" => K::Construct,
        b"group" | b"limit" | b"order" | b"where" => K::Clause,
        b"merge" => K::Merge,
        b"reset" => K::Reset,
        b"start" => K::Start,
        b"table" => K::Table,
        b"union" => K::SetOperation,
        b"using" => K::Using,
        b"bigint" | b"exists" | b"nullif" | b"setof" | b"xmlpi" => K::Construct,
        b"column" | b"freeze" | b"isnull" | b"unique" => K::Word,
        b"commit" => K::Commit,
        b"create" => K::Create,
        b"delete" => K::Delete,
        b"escape" | b"filter" | b"within" => K::Syntax,
        b"except" => K::SetOperation,
        b"having" | b"offset" | b"window" => K::Clause,
        b"insert" => K::Insert,
        b"select" => K::Select,
        b"update" => K::Update,
        b"values" => K::Values,
        b"analyze" | b"analyse" => K::Analyze,
        b"between" | b"collate" | b"default" | b"foreign" | b"leading" | b"natural"
        | b"notnull" | b"placing" | b"primary" | b"variadic" | b"verbose" | b"binary" => K::Word,
        b"boolean" | b"decimal" | b"integer" | b"numeric" | b"varchar" | b"xmlroot" => K::Construct,
        b"similar" => K::Sugar,
        b"declare" => K::Declare,
        b"discard" => K::Discard,
        b"execute" => K::Execute,
        b"explain" => K::Explain,
        b"extract" | b"overlay" => K::SyntaxFunction,
        b"lateral" => K::Lateral,
        b"prepare" => K::Prepare,
        b"release" => K::Release,
        b"coalesce" | b"greatest" | b"grouping" | b"interval" | b"national" | b"smallint"
        | b"xmlparse" | b"xmltable" => K::Construct,
        b"distinct" => K::Distinct,
        b"overlaps" => K::Sugar,
        b"position" => K::SyntaxFunction,
        b"rollback" => K::Rollback,
        b"trailing" | b"localtime" => K::Word,
        b"truncate" => K::Truncate,
        b"character" | b"precision" | b"timestamp" | b"xmlconcat" | b"xmlexists" | b"xmlforest" => {
            K::Construct
        }
        b"collation" | b"initially" | b"symmetric" => K::Word,
        b"intersect" => K::SetOperation,
        b"recursive" => K::Recursive,
        b"returning" => K::Clause,
        b"savepoint" => K::Savepoint,
        b"substring" => K::SyntaxFunction,
        b"asymmetric" | b"constraint" | b"deferrable" | b"references" => K::Word,
        b"deallocate" => K::Deallocate,
        b"ordinality" => K::Ordinality,
        b"repeatable" => K::Syntax,
        b"xmlelement" => K::Construct,
        b"tablesample" => K::TableSample,
        b"materialized" => K::Syntax,
        b"xmlserialize" | b"xmlattributes" | b"xmlnamespaces" => K::Construct,
        b"current_date" | b"current_time" | b"current_role" | b"current_user" | b"session_user"
        | b"concurrently" | b"localtimestamp" | b"current_catalog" | b"current_timestamp" => {
            K::Word
        }
        _ => K::None,
    }
}
