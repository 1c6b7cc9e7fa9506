//! Builds the tree of an expression, of bounded depth.

use regex::{Regex, RegexBuilder};

use super::lexer::{Token, tokens};
use super::{Mistake, codes};
use crate::base::Span;
use crate::lang::suggest::suggest;

/// Deepest nesting of parentheses, lists, negations and calls.
const MAX_DEPTH: usize = 32;
/// Largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// A part of an expression; spans count from its start.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// What a part of an expression is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Node>),
    Name(Vec<String>),
    /// Whether a name has a value, and where the name stands.
    Has(Vec<String>, Span),
    Not(Box<Node>),
    // Flat, so that a long chain is not a deep tree.
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Call(Box<Node>, Method, Span),
}

/// An operator that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// A method and its argument.
#[derive(Clone, Debug)]
pub(super) enum Method {
    StartsWith(Box<Node>),
    EndsWith(Box<Node>),
    Contains(Box<Node>),
    Matches(Regex),
    Size,
}

const METHODS: [&str; 5] = ["startsWith", "endsWith", "contains", "matches", "size"];

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        end: text.len(),
    };
    let node = parser.any()?;
    match parser.tokens.get(parser.at) {
        None => Ok(node),
        Some((token, span)) => Err(trailing(token, *span)),
    }
}

fn trailing(token: &Token, span: Span) -> Mistake {
    let mistake = Mistake::syntax(format!("expected an operator, found {}", show(token)), span);
    match token {
        Token::Name(name) if name.len() == 1 => match name[0].to_lowercase().as_str() {
            "and" => mistake.help("write `&&` for and"),
            "or" => mistake.help("write `||` for or"),
            "not" => mistake.help("write `!` for not"),
            "contains" | "matches" | "startswith" | "endswith" => {
                mistake.help("write it as a method, as in `x.contains(\"y\")`")
            }
            _ => mistake,
        },
        Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") => {
            mistake.help("comparisons do not chain; combine two with `&&`")
        }
        _ => mistake,
    }
}

fn show(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{}`", name.join(".")),
        Token::Int(value) => format!("`{value}`"),
        Token::Text(_) => "a string".into(),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<(Token, Span)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn eat(&mut self, sign: &str) -> Option<Span> {
        match self.tokens.get(self.at) {
            Some((Token::Sign(found), span)) if *found == sign => {
                let span = *span;
                self.at += 1;
                Some(span)
            }
            _ => None,
        }
    }

    fn expect(&mut self, sign: &str) -> Result<Span, Mistake> {
        self.eat(sign)
            .ok_or_else(|| self.unexpected(&format!("`{sign}`")))
    }

    fn unexpected(&self, wanted: &str) -> Mistake {
        match self.tokens.get(self.at) {
            Some((token, span)) => {
                Mistake::syntax(format!("expected {wanted}, found {}", show(token)), *span)
            }
            None => Mistake::syntax(
                format!("expected {wanted}, found the end of the expression"),
                Span::new(self.end, self.end),
            ),
        }
    }

    /// Runs one level deeper.
    fn deeper(
        &mut self,
        span: Span,
        run: impl FnOnce(&mut Self) -> Result<Node, Mistake>,
    ) -> Result<Node, Mistake> {
        if self.depth == MAX_DEPTH {
            return Err(Mistake::new(
                codes::LIMIT,
                format!("expression is nested deeper than {MAX_DEPTH}"),
                span,
            ));
        }
        self.depth += 1;
        let node = run(self);
        self.depth -= 1;
        node
    }

    fn any(&mut self) -> Result<Node, Mistake> {
        self.chain("||", Self::all, Kind::Any)
    }

    fn all(&mut self) -> Result<Node, Mistake> {
        self.chain("&&", Self::comparison, Kind::All)
    }

    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Result<Node, Mistake>,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Result<Node, Mistake> {
        let first = part(self)?;
        let mut span = first.span;
        let mut parts = vec![first];
        while self.eat(sign).is_some() {
            let next = part(self)?;
            span = span.to(next.span);
            parts.push(next);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node {
                kind: kind(parts),
                span,
            },
        })
    }

    fn comparison(&mut self) -> Result<Node, Mistake> {
        let left = self.unary()?;
        let operator = match self.peek() {
            Some(Token::Sign("==")) => Some(Comparison::Equal),
            Some(Token::Sign("!=")) => Some(Comparison::NotEqual),
            Some(Token::Sign("<")) => Some(Comparison::Less),
            Some(Token::Sign("<=")) => Some(Comparison::LessOrEqual),
            Some(Token::Sign(">")) => Some(Comparison::Greater),
            Some(Token::Sign(">=")) => Some(Comparison::GreaterOrEqual),
            Some(Token::Name(name)) if name.as_slice() == ["in"] => None,
            _ => return Ok(left),
        };
        self.at += 1;
        let right = self.unary()?;
        let span = left.span.to(right.span);
        let (left, right) = (Box::new(left), Box::new(right));
        let kind = match operator {
            Some(operator) => Kind::Compare(operator, left, right),
            None => Kind::In(left, right),
        };
        Ok(Node { kind, span })
    }

    fn unary(&mut self) -> Result<Node, Mistake> {
        let Some(sign) = self.eat("!") else {
            return self.postfix();
        };
        self.deeper(sign, |parser| {
            let inner = parser.unary()?;
            Ok(Node {
                span: sign.to(inner.span),
                kind: Kind::Not(Box::new(inner)),
            })
        })
    }

    /// A value and the methods called on it.
    fn postfix(&mut self) -> Result<Node, Mistake> {
        let mut node = self.primary()?;
        let mut calls = 0;
        while self.eat(".").is_some() {
            let Some((Token::Name(names), span)) = self.tokens.get(self.at).cloned() else {
                return Err(self.unexpected("the name of a method"));
            };
            self.at += 1;
            let ([method], Some(Token::Sign("("))) = (names.as_slice(), self.peek()) else {
                return Err(Mistake::syntax(
                    "only a name has fields, other values have methods",
                    span,
                ));
            };
            calls += 1;
            if self.depth + calls > MAX_DEPTH {
                return Err(Mistake::new(
                    codes::LIMIT,
                    "expression has too many calls in a row",
                    span,
                ));
            }
            node = self.call(node, method, span)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, Mistake> {
        let Some((token, span)) = self.next() else {
            return Err(self.unexpected("a value"));
        };
        let kind = match token {
            Token::Int(value) => Kind::Int(value),
            Token::Text(value) => Kind::Text(value),
            Token::Sign("(") => {
                return self.deeper(span, |parser| {
                    let mut inner = parser.any()?;
                    let close = parser.expect(")")?;
                    // A name stands where it is written, as suggestions and its uses go by that.
                    if !matches!(inner.kind, Kind::Name(_)) {
                        inner.span = span.to(close);
                    }
                    Ok(inner)
                });
            }
            Token::Sign("[") => return self.deeper(span, |parser| parser.list(span)),
            Token::Sign(sign) => {
                self.at -= 1;
                let mistake = self.unexpected("a value");
                return Err(match sign {
                    "." => mistake.help("a name does not begin with a dot"),
                    _ => mistake,
                });
            }
            Token::Name(name) => return self.name(name, span),
        };
        Ok(Node { kind, span })
    }

    fn list(&mut self, open: Span) -> Result<Node, Mistake> {
        let mut items = Vec::new();
        loop {
            if let Some(close) = self.eat("]") {
                return Ok(Node {
                    kind: Kind::List(items),
                    span: open.to(close),
                });
            }
            if !items.is_empty() {
                if self.eat(",").is_none() {
                    return Err(self.unexpected("`,` or `]`"));
                }
                if self.peek() == Some(&Token::Sign("]")) {
                    continue;
                }
            }
            let item = self.any()?;
            items.push(item);
        }
    }

    fn name(&mut self, mut name: Vec<String>, span: Span) -> Result<Node, Mistake> {
        let called = self.peek() == Some(&Token::Sign("("));
        match (name.as_slice(), called) {
            ([word], false) if word == "true" || word == "false" => Ok(Node {
                kind: Kind::Bool(word == "true"),
                span,
            }),
            ([word], false) if word == "in" => {
                Err(Mistake::syntax("expected a value, found `in`", span))
            }
            (_, false) => Ok(Node {
                kind: Kind::Name(name),
                span,
            }),
            ([word], true) if word == "has" => self.has(span),
            ([word], true) => {
                let mistake = Mistake::new(
                    codes::METHOD,
                    format!("there is no function `{word}`"),
                    span,
                );
                Err(match word.as_str() {
                    "not" => mistake.help("write `!` for not"),
                    word if METHODS.contains(&word) => {
                        mistake.help(format!("write it as a method, as in `x.{word}(…)`"))
                    }
                    _ => mistake.help("`has(x)` is the only one; the rest are methods"),
                })
            }
            (_, true) => {
                let method = name.pop().unwrap_or_default();
                let from = span.end - method.len();
                let receiver = Node {
                    kind: Kind::Name(name),
                    span: Span::new(span.start, from - 1),
                };
                self.call(receiver, &method, Span::new(from, span.end))
            }
        }
    }

    fn has(&mut self, start: Span) -> Result<Node, Mistake> {
        self.expect("(")?;
        let Some((Token::Name(name), at)) = self.next() else {
            return Err(Mistake::syntax(
                "`has` takes a name, as in `has(git.tag)`",
                start,
            ));
        };
        let close = self.expect(")")?;
        Ok(Node {
            kind: Kind::Has(name, at),
            span: start.to(close),
        })
    }

    /// The arguments of a method, whose opening parenthesis is next.
    fn call(&mut self, receiver: Node, method: &str, at: Span) -> Result<Node, Mistake> {
        if !METHODS.contains(&method) {
            let mistake = Mistake::new(codes::METHOD, format!("there is no method `{method}`"), at);
            return Err(match suggest(method, METHODS) {
                Some(name) => mistake.replace(format!("did you mean `{name}`?"), at, name),
                None => mistake.help(format!("there are {}", METHODS.join(", "))),
            });
        }
        self.expect("(")?;
        let argument = match self.peek() {
            Some(Token::Sign(")")) => None,
            _ => Some(self.deeper(at, Self::any)?),
        };
        if self.peek() == Some(&Token::Sign(",")) {
            return Err(Mistake::new(
                codes::METHOD,
                format!("`{method}` takes one argument"),
                at,
            ));
        }
        let close = self.expect(")")?;
        let span = receiver.span.to(close);
        let method = match (method, argument) {
            ("size", None) => Method::Size,
            ("size", Some(_)) => {
                return Err(Mistake::new(codes::METHOD, "`size` takes no argument", at));
            }
            (_, None) => {
                return Err(Mistake::new(
                    codes::METHOD,
                    format!("`{method}` needs an argument"),
                    at,
                ));
            }
            ("startsWith", Some(node)) => Method::StartsWith(Box::new(node)),
            ("endsWith", Some(node)) => Method::EndsWith(Box::new(node)),
            ("contains", Some(node)) => Method::Contains(Box::new(node)),
            (_, Some(node)) => Method::Matches(pattern(&node)?),
        };
        Ok(Node {
            kind: Kind::Call(Box::new(receiver), method, at),
            span,
        })
    }
}

/// Compiles the pattern of `matches`, so that one that cannot run is known beforehand.
fn pattern(node: &Node) -> Result<Regex, Mistake> {
    let Kind::Text(text) = &node.kind else {
        return Err(Mistake::new(
            codes::REGEX,
            "`matches` takes a pattern written out",
            node.span,
        )
        .help("write the regular expression as a string, r\"…\""));
    };
    let built = RegexBuilder::new(text)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .nest_limit(50)
        .build();
    built.map_err(|error| {
        let message = match error {
            regex::Error::CompiledTooBig(_) => "regular expression is too large".to_owned(),
            // The first lines draw the pattern; the last says what is wrong.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!(
                    "regular expression is not valid: {}",
                    last.trim_start_matches("error: ")
                )
            }
        };
        Mistake::new(codes::REGEX, message, node.span)
    })
}
