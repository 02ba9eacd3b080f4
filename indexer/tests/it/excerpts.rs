//! Pieces of code as they stand: uses of what is edited, similar code, recent edits, siblings; and how steady the
//! context is while one types.

use crate::support::{Fixture, written};
use expect_test::{Expect, expect};
use lacuna_indexer::{Query, RecentEdit};

fn check(fixture: &str, expected: Expect) {
    expected.assert_eq(&written(&Fixture::new(fixture).context(4000)));
}

#[test]
fn uses_of_the_function_being_edited() {
    check(
        r#"
//- shop/stock.py
def reserve_goods(stock, amount):
    $0
//- shop/order.py
from shop.stock import reserve_goods

def place(order):
    for line in order.lines:
        reserve_goods(line.stock, line.amount)
    order.done = True
//- tests/test_stock.py
from shop.stock import reserve_goods

def test_reserve():
    assert reserve_goods(make(), 2) == 2
//- unrelated.py
def other():
    return reserve_goods
"#,
        expect![[r#"
            --- tests/test_stock.py (a use of `reserve_goods`, which is being edited)
            from shop.stock import reserve_goods

            def test_reserve():
                assert reserve_goods(make(), 2) == 2
            --- shop/order.py (a use of `reserve_goods`, which is being edited)
            from shop.stock import reserve_goods

            def place(order):
                for line in order.lines:
                    reserve_goods(line.stock, line.amount)
                order.done = True
        "#]],
    );
}

#[test]
fn similar_code_of_the_same_directory() {
    check(
        r#"
//- shop/invoices.py
def export_invoices(session, writer):
    invoices = session.query("invoices").filter(active=True)
    for invoice in invoices:
        writer.write_row(invoice.identifier, invoice.total)
    writer.finish_document()
//- shop/payments.py
def export_payments(session, writer):
    payments = session.query("payments").filter(active=True)
    $0
    writer.finish_document()
//- shop/unrelated.py
def greet():
    print("hello")
"#,
        expect![[r#"
            --- shop/invoices.py (similar code (70% of the words here))
            def export_invoices(session, writer):
                invoices = session.query("invoices").filter(active=True)
                for invoice in invoices:
                    writer.write_row(invoice.identifier, invoice.total)
                writer.finish_document()
        "#]],
    );
}

#[test]
fn declarations_of_the_sibling() {
    check(
        r#"
//- src/stock.h
struct Stock { int count; };
int stock_reserve(struct Stock *stock, int amount);
//- src/stock.c
int stock_release(struct Stock *stock, int amount) {
    $0
}
"#,
        expect![[r#"
            --- src/stock.h (struct `Stock` used here, the only one of that name; function `stock_reserve` of a file that belongs to this one)
            struct Stock {
                int count;
            }
            int stock_reserve(struct Stock *stock, int amount);
        "#]],
    );
}

#[test]
fn recent_edits_are_shown_unless_they_are_visible_or_secret() {
    let fixture = Fixture::new(
        "//- a.py\nLIMIT = 20\nclass A: ...\n//- .env\nKEY=1\n//- main.py\ndef f():\n    x = 1\n    $0\n",
    );
    let (path, offset) = fixture.cursor.clone().unwrap();
    let root = fixture.workspace.roots()[0].clone();
    let text = std::fs::read_to_string(&path).unwrap();
    let edit = |name: &str, before: &str, after: &str| RecentEdit {
        path: root.join(name),
        before: before.into(),
        after: after.into(),
    };
    let recent = [
        edit("main.py", "    x = 0\n", "    x = 1\n"),
        edit(".env", "KEY=0\n", "KEY=1\n"),
        edit("a.py", "LIMIT = 10\nclass A: ...\n", "LIMIT = 20\nclass A: ...\n"),
    ];
    let items = fixture.workspace.snapshot().context(&Query {
        path: &path,
        text: &text,
        offset,
        visible: 0..text.len(),
        budget: 4000,
        measure: &|text: &str| text.len(),
        recent: &recent,
    });
    expect![[r#"
        --- a.py (edited lately)
        -LIMIT = 10
        +LIMIT = 20
    "#]]
    .assert_eq(&written(&items));
}

/// The text typed at the cursor, key by key: how many keys keep the context of the key before.
fn steady_keys(fixture: &str, typed: &str) -> (usize, usize) {
    let fixture = Fixture::new(fixture);
    let (path, start) = fixture.cursor.clone().unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    let context = |length: usize| {
        let text = format!("{}{}{}", &before[..start], &typed[..length], &before[start..]);
        fixture.workspace.update(&path, Some(&text));
        let query = Query {
            path: &path,
            text: &text,
            offset: start + length,
            visible: 0..text.len(),
            budget: 3000,
            measure: &|text: &str| text.len(),
            recent: &[],
        };
        // What goes into the prompt; why it does may change.
        let items = fixture.workspace.snapshot().context(&query).into_iter();
        items.map(|item| (item.path, item.text)).collect::<Vec<_>>()
    };
    let contexts: Vec<_> = (0..=typed.len()).map(context).collect();
    let same = contexts.windows(2).filter(|pair| pair[0] == pair[1]).count();
    (same, contexts.len() - 1)
}

#[test]
fn the_context_is_steady_while_one_types() {
    let fixture = r#"
//- shop/models.py
class Stock:
    def reserve(self, amount): ...
    def release(self, amount): ...
class Order:
    def lines(self): ...
//- shop/reports.py
def export_orders(session, writer):
    orders = session.query("orders").filter(active=True)
    for order in orders:
        writer.write_row(order.identifier, order.total)
//- shop/main.py
from shop.models import Stock, Order

def export_stock(session, writer):
    stocks = session.query("stocks").filter(active=True)
    $0

def later(): ...
"#;
    let typed = "for stock in stocks:\n        writer.write_row(stock.identifier, stock.total)\n        total = (total + [stock.price])\n    return Order(total)";
    let (same, keys) = steady_keys(fixture, typed);
    assert!(same * 100 >= keys * 95, "{same} of {keys} keys keep the context");
}
