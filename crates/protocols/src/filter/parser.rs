//! Reads an expression; the grammar is in the [module](super).

use memchr::memmem::Finder;

use super::cursor::Parser;
use super::error::FilterError;
use super::evaluate::Test;
use super::field::{Field, FieldName, Kind, similar};
use super::lexer::TokenKind;
use super::operand::{Function, Operand, Range, range};
use super::values::Operator;
use super::{MAX_DEPTH, MAX_ITEMS, MAX_LENGTH};

/// Reads a whole expression.
pub(super) fn parse(text: &str) -> Result<Test, FilterError> {
    if text.len() > MAX_LENGTH {
        let problem = format!("the filter has more than {MAX_LENGTH} bytes");
        return Err(FilterError::at(text, MAX_LENGTH, problem));
    }
    let mut parser = Parser::new(text)?;
    let whole = parser.any()?;
    match parser.peek() {
        TokenKind::End => Ok(whole),
        TokenKind::Sign(")") => Err(parser.error("this bracket is not open")),
        _ => Err(parser.error("`and`, `or` or the end is expected")),
    }
}

/// How many of the values of a field must fulfil a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    Some,
    Every,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.one()?];
        while self.take("||", "or") {
            tests.push(self.one()?);
        }
        Ok(alone(tests, Test::Any))
    }

    fn one(&mut self) -> Result<Test, FilterError> {
        let mut test = self.all()?;
        while self.take("^^", "xor") {
            // They are nested, and compared in their turn.
            self.deeper()?;
            test = Test::One(Box::new([test, self.all()?]));
        }
        Ok(test)
    }

    fn all(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.not()?];
        while self.take("&&", "and") {
            tests.push(self.not()?);
        }
        Ok(alone(tests, Test::All))
    }

    fn deeper(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!(
                "more than {MAX_DEPTH} levels of brackets, `not` and `xor`"
            )));
        }
        Ok(())
    }

    fn not(&mut self) -> Result<Test, FilterError> {
        self.deeper()?;
        let test = if self.take("!", "not") {
            Test::Not(Box::new(self.not()?))
        } else if self.take("(", "") {
            let test = self.any()?;
            if !self.take(")", "") {
                return Err(self.error("`)` is expected"));
            }
            test
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(test)
    }

    fn comparison(&mut self) -> Result<Test, FilterError> {
        let next = self.tokens.get(self.next + 1).map(|token| &token.kind);
        let names_field = matches!(next, Some(TokenKind::Word(word)) if Field::named(word).is_some() || function(word).is_some());
        let quantifier = match self.peek() {
            TokenKind::Word("any") if names_field => Some(Quantifier::Some),
            TokenKind::Word("all") if names_field => Some(Quantifier::Every),
            _ => None,
        };
        if quantifier.is_some() {
            self.advance();
        }
        match self.advance() {
            TokenKind::Text(text) => Ok(Test::Anywhere(finder(&text))),
            TokenKind::Word("and" | "or" | "xor" | "in") => {
                Err(self.error_before("a field is expected here; quote a word to search for it"))
            }
            TokenKind::Word(word) => match (Field::named(word), function(word)) {
                (Some(field), _) => self.of_field(field, word, quantifier),
                (None, Some(function)) if self.take("(", "") => self.of_function(function, quantifier),
                _ => self.bare_word(word),
            },
            TokenKind::Sign(_) => Err(self.error_before("a field is expected, or text in double quotes")),
            TokenKind::End => Err(self.error("a field is expected, such as http.host")),
        }
    }

    /// A word that is not a field is searched for, unless it was probably meant to be one.
    fn bare_word(&mut self, word: &str) -> Result<Test, FilterError> {
        let at = self.next;
        let is_compared =
            self.operator().is_some() || matches!(self.peek(), TokenKind::Sign("[") | TokenKind::Word("in"));
        self.next = at;
        if is_compared || word.contains('.') {
            let hint = similar(word).map_or_else(String::new, |name| format!("; is {name} meant?"));
            return Err(self.error_before(format!("`{word}` is not a field{hint}")));
        }
        Ok(Test::Anywhere(finder(word.as_bytes())))
    }

    fn of_field(
        &mut self,
        field: Field,
        word: &str,
        quantifier: Option<Quantifier>,
    ) -> Result<Test, FilterError> {
        let field = if field.name() == FieldName::Header && field.header().is_empty() {
            let name = self.header_name()?;
            field.of_header(&name)
        } else {
            field
        };
        let kind = field.kind();
        let slice = self.slice(kind)?;
        if slice.is_empty() {
            if kind == Kind::Presence && self.take("", "contains") {
                let text = self.text_value()?;
                return Ok(Test::All(vec![Test::Has(field), Test::Anywhere(finder(&text))]));
            }
            if !self.is_compared() && quantifier.is_none() {
                return Ok(Test::Has(field));
            }
        }
        if kind == Kind::Presence {
            return Err(self.error(format!("{word} has no value; write `{word}` or `not {word}`")));
        }
        let operand = Operand {
            field,
            function: None,
            slice,
        };
        self.compared(operand, kind, quantifier)
    }

    /// Reads what comes after `len(`.
    fn of_function(
        &mut self,
        function: Function,
        quantifier: Option<Quantifier>,
    ) -> Result<Test, FilterError> {
        let TokenKind::Word(word) = self.advance() else {
            return Err(self.error_before("a field is expected"));
        };
        let field = Field::named(word).filter(|field| field.kind() == Kind::Text);
        let Some(mut field) = field else {
            return Err(self.error_before("a field with text is expected, such as http.host"));
        };
        if field.name() == FieldName::Header && field.header().is_empty() {
            let name = self.header_name()?;
            field = field.of_header(&name);
        }
        if !self.take(")", "") {
            return Err(self.error("`)` is expected"));
        }
        let kind = if function == Function::Length {
            Kind::Number
        } else {
            Kind::Text
        };
        let operand = Operand {
            field,
            function: Some(function),
            slice: self.slice(kind)?,
        };
        self.compared(operand, kind, quantifier)
    }

    fn compared(
        &mut self,
        operand: Operand,
        kind: Kind,
        quantifier: Option<Quantifier>,
    ) -> Result<Test, FilterError> {
        let is_negated = matches!(self.peek(), TokenKind::Word("not"));
        if is_negated {
            self.advance();
        }
        let (condition, usual) = if self.take("", "in") {
            (self.set(kind)?, Quantifier::Some)
        } else if is_negated {
            return Err(self.error("`in` is expected"));
        } else {
            let (operator, usual) = self
                .operator()
                .ok_or_else(|| self.error("a comparison is expected, such as =="))?;
            (self.condition(kind, operator)?, usual)
        };
        let test = match quantifier.unwrap_or(usual) {
            Quantifier::Some => Test::Some(operand, condition),
            Quantifier::Every => Test::Every(operand, condition),
        };
        Ok(if is_negated {
            Test::Not(Box::new(test))
        } else {
            test
        })
    }

    /// Returns true if an operator is next.
    fn is_compared(&mut self) -> bool {
        let at = self.next;
        let is_compared = self.take("", "not") || self.take("", "in") || self.operator().is_some();
        self.next = at;
        is_compared
    }

    fn header_name(&mut self) -> Result<String, FilterError> {
        const EXPECTED: &str = "the name is expected, as in http.header[\"user-agent\"]";
        if !self.take("[", "") {
            return Err(self.error(EXPECTED));
        }
        let TokenKind::Text(name) = self.advance() else {
            return Err(self.error_before(EXPECTED));
        };
        if !self.take("]", "") {
            return Err(self.error("`]` is expected"));
        }
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Reads `[0:4,-1]`, if it is next.
    fn slice(&mut self, kind: Kind) -> Result<Vec<Range>, FilterError> {
        let mut ranges = Vec::new();
        if !self.take("[", "") {
            return Ok(ranges);
        }
        if kind != Kind::Text {
            return Err(self.error_before("only text has parts"));
        }
        loop {
            let range = match self.advance() {
                TokenKind::Word(word) => range(word),
                _ => None,
            };
            let problem = "a range is expected: [0:4] for 4 bytes, [2-3] up to a byte, [-2:] for the end";
            ranges.push(range.ok_or_else(|| self.error_before(problem))?);
            if self.take("]", "") {
                return Ok(ranges);
            }
            if ranges.len() == MAX_ITEMS || !self.take(",", "") {
                return Err(self.error("`]` is expected"));
            }
        }
    }

    /// Takes an operator, and how many values must fulfil it unless that is said.
    fn operator(&mut self) -> Option<(Operator, Quantifier)> {
        use Operator::{Contains, Different, Matches, Order};
        use Quantifier::{Every, Some as AtLeastOne};
        const EQUAL: Operator = Order([false, true, false]);
        let operator = match self.peek() {
            TokenKind::Sign("==") | TokenKind::Word("eq" | "any_eq") => (EQUAL, AtLeastOne),
            TokenKind::Sign("===") | TokenKind::Word("all_eq") => (EQUAL, Every),
            TokenKind::Sign("!=") | TokenKind::Word("ne" | "all_ne") => (Different, Every),
            TokenKind::Sign("!==" | "~=") | TokenKind::Word("any_ne") => (Different, AtLeastOne),
            TokenKind::Sign("<") | TokenKind::Word("lt") => (Order([true, false, false]), AtLeastOne),
            TokenKind::Sign("<=") | TokenKind::Word("le") => (Order([true, true, false]), AtLeastOne),
            TokenKind::Sign(">") | TokenKind::Word("gt") => (Order([false, false, true]), AtLeastOne),
            TokenKind::Sign(">=") | TokenKind::Word("ge") => (Order([false, true, true]), AtLeastOne),
            TokenKind::Word("contains") => (Contains, AtLeastOne),
            TokenKind::Sign("~") | TokenKind::Word("matches") => (Matches, AtLeastOne),
            _ => return None,
        };
        self.advance();
        Some(operator)
    }
}

fn finder(text: &[u8]) -> Finder<'static> {
    Finder::new(text).into_owned()
}

fn function(word: &str) -> Option<Function> {
    match word {
        "len" => Some(Function::Length),
        "lower" => Some(Function::Lower),
        "upper" => Some(Function::Upper),
        _ => None,
    }
}

/// Returns a single test as it is.
fn alone(mut tests: Vec<Test>, all: fn(Vec<Test>) -> Test) -> Test {
    match tests.len() {
        1 => tests.remove(0),
        _ => all(tests),
    }
}
