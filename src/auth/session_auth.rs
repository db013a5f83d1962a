#[derive(Debug, Clone)]
pub struct Remembered;
