//! The keywords that routing tells apart.

/// Keywords of queries, and the words that statements begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// An identifier, or a keyword that means nothing to us.
    None,
    /// A reserved word that is neither a name nor a function: AND, CASE, NULL ...
    Word,
    /// A word of the grammar, mostly an operator, that also names functions: LIKE, ISNULL, ZONE ...
    Operator,
    /// What may stand before JOIN. Names functions as well.
    Side,
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
    /// What ends a FROM clause: WHERE, HAVING, LIMIT, OFFSET, WINDOW, RETURNING.
    Clause,
    /// GROUP and ORDER, which BY follows.
    Group,
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
        b"both" | b"case" | b"cast" | b"desc" | b"else" | b"null" | b"some" | b"then" | b"true"
        | b"user" | b"when" => K::Word,
        b"like" | b"zone" => K::Operator,
        b"full" | b"left" => K::Side,
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
        b"array" | b"check" | b"false" | b"grant" => K::Word,
        b"ilike" => K::Operator,
        b"cross" | b"inner" | b"outer" | b"right" => K::Side,
        b"begin" => K::Begin,
        b"close" => K::Close,
        b"fetch" => K::Fetch,
        b"float" | b"least" | b"nchar" | b"treat" => K::Construct,
        b"limit" | b"where" => K::Clause,
        b"group" | b"order" => K::Group,
        b"merge" => K::Merge,
        b"reset" => K::Reset,
        b"start" => K::Start,
        b"table" => K::Table,
        b"union" => K::SetOperation,
        b"using" => K::Using,
        b"bigint" | b"exists" | b"nullif" | b"setof" | b"xmlpi" => K::Construct,
        b"column" | b"unique" => K::Word,
        b"freeze" | b"isnull" => K::Operator,
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
        b"collate" | b"default" | b"foreign" | b"leading" | b"placing" | b"primary"
        | b"variadic" => K::Word,
        b"notnull" | b"verbose" | b"binary" => K::Operator,
        b"natural" => K::Side,
        b"between" | b"boolean" | b"decimal" | b"integer" | b"numeric" | b"varchar"
        | b"xmlroot" => K::Construct,
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
        b"collation" => K::Operator,
        b"initially" | b"symmetric" => K::Word,
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
        | b"localtimestamp" | b"current_catalog" | b"current_timestamp" => K::Word,
        b"concurrently" => K::Operator,
        _ => K::None,
    }
}
