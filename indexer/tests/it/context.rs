//! What the context of a cursor shows, language by language.

use crate::support::{Fixture, written};
use expect_test::{Expect, expect};

fn check(fixture: &str, expected: Expect) {
    expected.assert_eq(&written(&Fixture::new(fixture).context(4000)));
}

#[test]
fn python() {
    check(
        r#"
//- shop/__init__.py
from .models import Stock
//- shop/models.py
from dataclasses import dataclass
from shop.base import Record

@dataclass
class Stock(Record):
    """Goods in a warehouse.

    More.
    """
    name: str
    count: int = 0

    def __init__(self, name: str, count: int):
        self.name = name
        self.location = None

    @property
    def empty(self) -> bool:
        return self.count == 0

    def reserve(
        self,
        amount: int,  # pieces
    ) -> "Reservation":
        """Sets goods aside."""
        def inner(): pass
        return Reservation(amount)

    def _private(self): ...

class Reservation:
    amount: int
//- shop/base.py
class Record:
    id: int
    def save(self): ...
//- app/main.py
from shop import Stock
from shop.base import Record

def order():
    stock = Stock("a", 1)
    stock.$0
"#,
        expect![[r#"
            --- shop/base.py (class `Record` imported at line 2 and not used yet)
            class Record:
                id: int
                def save(self): ...
            --- shop/models.py (class `Stock`, whose members are used here)
            @dataclass
            class Stock(Record):
                """Goods in a warehouse."""
                name: str
                count: int = 0
                def __init__(self, name: str, count: int): ...
                self.location = None
                @property
                def empty(self) -> bool: ...
                def reserve(self, amount: int) -> "Reservation": ...
        "#]],
    );
}

#[test]
fn rust() {
    check(
        r#"
//- Cargo.toml
[package]
name = "shop"
//- src/lib.rs
pub mod stock;
mod order;
//- src/stock.rs
/// Goods in a warehouse.
#[derive(Debug)]
pub struct Stock {
    pub name: String,
    count: u32,
}

impl Stock {
    pub fn new(name: &str) -> Self { todo!() }
    /// Sets goods aside.
    pub fn reserve(&mut self, amount: u32) -> Result<Reservation, Error> { todo!() }
    fn check(&self) {}
}

pub struct Reservation(pub u32);
pub enum Error { Empty, Short { missing: u32 } }
//- src/order.rs
use crate::stock::Stock;

fn order() {
    let mut stock = Stock::new("a");
    stock.$0
}
"#,
        expect![[r#"
            --- src/stock.rs (struct `Stock`, whose members are used here)
            /// Goods in a warehouse.
            pub struct Stock {
                pub name: String,
                pub fn new(name: &str) -> Self;
                pub fn reserve(&mut self, amount: u32) -> Result<Reservation, Error>;
            }
        "#]],
    );
}

#[test]
fn typescript() {
    check(
        r#"
//- tsconfig.json
{ "compilerOptions": { "paths": { "@lib/*": ["./src/*"] } } }
//- src/stock.ts
/** Goods in a warehouse. */
export class Stock extends Base implements Named {
  private secret = 1;
  readonly name: string;
  constructor(public count: number) { super(); this.name = ""; }
  reserve(amount: number): Reservation { return { amount }; }
  onChange = (listener: () => void): void => {};
}
export interface Reservation { amount: number; release(): void }
export default function load(path: string): Promise<Stock> { return null!; }
export const LIMIT = 10;
//- src/index.ts
export * from "./stock.js";
//- app/main.tsx
import load, { LIMIT } from "@lib/stock";
import { Stock } from "../src";

export function App() {
  const stock = new Stock(LIMIT);
  load("x").then($0);
}
"#,
        expect![[r#"
            --- src/stock.ts (class `Stock`, whose members are used here; variable `LIMIT` used here, imported at line 1; function `load` used here, imported at line 1)
            // Goods in a warehouse.
            class Stock extends Base implements Named {
                readonly name: string;
                constructor(public count: number);
                public count: number;
                reserve(amount: number): Reservation;
                onChange = (listener: () => void): void;
            }
            function load(path: string): Promise<Stock>;
            const LIMIT = 10;
        "#]],
    );
}

#[test]
fn javascript() {
    check(
        r#"
//- lib/stock.js
class Stock {
  constructor(name) { this.name = name; this.count = 0; }
  reserve(amount) { return amount; }
}
function open(path, { mode = "r" } = {}) {}
module.exports = Stock;
exports.open = open;
//- main.js
const Stock = require("./lib/stock");
const { open } = require("./lib/stock");
function main() {
  const stock = new Stock("a");
  open($0
}
"#,
        expect![[r#"
            --- lib/stock.js (class `Stock` used here, imported at line 1; function `open` used here, imported at line 2)
            class Stock {
                constructor(name);
                this.name = name;
                this.count = 0;
                reserve(amount);
            }
            function open(path, { mode = "r" } = {});
        "#]],
    );
}

#[test]
fn java() {
    check(
        r#"
//- src/com/shop/model/Stock.java
package com.shop.model;

/** Goods in a warehouse. */
@Entity(name = "stock")
public class Stock extends Base<Stock> implements Named {
    public static final int LIMIT = 10;
    private int count;
    public Stock(String name) { }
    /** Sets goods aside. */
    @Override public Reservation reserve(int amount) throws StockException { return null; }
    public enum State { OPEN, CLOSED; }
}
//- src/com/shop/model/Reservation.java
package com.shop.model;
public record Reservation(int amount, String holder) { }
//- src/com/shop/app/Helper.java
package com.shop.app;
class Helper { static void log(String text) { } }
//- src/com/shop/app/Main.java
package com.shop.app;
import com.shop.model.Stock;
public class Main {
    void order(Stock stock) {
        Helper.log("x");
        stock.$0
    }
}
"#,
        expect![[r#"
            --- src/com/shop/model/Stock.java (class `Stock`, whose members are used here)
            // Goods in a warehouse.
            public class Stock extends Base<Stock> implements Named {
                public static final int LIMIT = 10;
                public Stock(String name);
                public Reservation reserve(int amount) throws StockException;
                public enum State;
            }
            --- src/com/shop/app/Helper.java (class `Helper`, whose members are used here)
            class Helper {
                static void log(String text);
            }
        "#]],
    );
}

#[test]
fn c() {
    check(
        r#"
//- include/stock.h
#ifndef STOCK_H
#define STOCK_H
#include "types.h"
/* Goods in a warehouse. */
typedef struct stock {
    char name[16];
    int count;
} stock_t;
/** Opens a stock. */
stock_t *stock_open(const char *path,
                    int flags);
int stock_reserve(stock_t *stock, amount_t amount);
#define STOCK_LIMIT 10
enum stock_state { STOCK_OPEN, STOCK_CLOSED };
#endif
//- include/types.h
typedef unsigned int amount_t;
//- src/main.c
#include <stdio.h>
#include "stock.h"

int main(void)
{
    stock_t *stock = stock_open("a", 0);
    amount_t amount = STOCK_LIMIT;
    stock_reserve(stock, $0
}
"#,
        expect![[r#"
            --- include/stock.h (struct `stock_t` used here, through the import at line 2; function `stock_open` used here, through the import at line 2; constant `STOCK_LIMIT` used here, through the import at line 2; function `stock_reserve` used here, through the import at line 2; enum `stock_state` of a module that is used here)
            // Goods in a warehouse.
            typedef struct stock {
                char name[16];
                int count;
            } stock_t;
            // Opens a stock.
            stock_t *stock_open(const char *path, int flags);
            int stock_reserve(stock_t *stock, amount_t amount);
            #define STOCK_LIMIT 10
            enum stock_state {
                STOCK_OPEN,
                STOCK_CLOSED,
            }
            --- include/types.h (type `amount_t` used here, through the import at line 2)
            typedef unsigned int amount_t;
        "#]],
    );
}

#[test]
fn cpp() {
    check(
        r#"
//- stock.hpp
#pragma once
namespace shop {
/// Goods in a warehouse.
template <typename T>
class Stock : public Base {
public:
    explicit Stock(const std::string& name);
    virtual ~Stock() = default;
    int reserve(int amount) const;
    T& front() { return items_[0]; }
private:
    std::vector<T> items_;
};
inline int total(const Stock<int>& stock) { return 0; }
}
//- main.cpp
#include "stock.hpp"
int main() {
    shop::Stock<int> stock("a");
    int n = shop::total(stock);
    $0
}
"#,
        expect![[r#"
            --- stock.hpp (class `Stock` used here, through the import at line 1; function `total` used here, through the import at line 1)
            // Goods in a warehouse.
            class Stock : public Base {
                explicit Stock(const std::string& name);
                int reserve(int amount) const;
                T& front();
                std::vector<T> items_;
            }
            inline int total(const Stock<int>& stock);
        "#]],
    );
}

#[test]
fn go() {
    check(
        r#"
//- go.mod
module example.com/shop
//- stock/stock.go
package stock

// Stock is goods in a warehouse.
type Stock struct {
	Name string
	count, limit int
}

// Reserve sets goods aside.
func (s *Stock) Reserve(amount int) (*Reservation, error) { return nil, nil }

type Reservation struct{ Amount int }

func Open(path string) (*Stock, error) { return nil, nil }
//- stock/stock_test.go
package stock
func Open2() {}
//- util.go
package main
func must(err error) { }
//- main.go
package main

import "example.com/shop/stock"

func main() {
	s, err := stock.Open("a")
	must(err)
	s.$0
}
"#,
        expect![[r#"
            --- stock/stock.go (function `Open` used here, imported at line 3; struct `Stock` in the signature of what is used here; struct `Reservation` of a module that is used here)
            // Stock is goods in a warehouse.
            type Stock struct {
                Name string
                count, limit int
            }
            func (s *Stock) Reserve(amount int) (*Reservation, error)
            type Reservation struct {
                Amount int
            }
            func Open(path string) (*Stock, error)
            --- util.go (function `must` used here, of the same package)
            func must(err error)
        "#]],
    );
}

#[test]
fn c_sharp() {
    check(
        r#"
//- Model/Stock.cs
namespace Shop.Model;

/// <summary>
/// Goods in a warehouse.
/// </summary>
[Table("stock")]
public class Stock : Base, INamed
{
    public string Name { get; set; }
    public int Total => 1;
    private int count;
    public Stock(string name) { }
    public Reservation Reserve(int amount, bool force = false) { return null; }
}
public record Reservation(int Amount);
//- App/Main.cs
using System;
using Shop.Model;

namespace Shop.App
{
    class Main
    {
        void Order()
        {
            var stock = new Stock("a");
            stock.$0
        }
    }
}
"#,
        expect![[r#"
            --- Model/Stock.cs (class `Stock`, whose members are used here)
            /// Goods in a warehouse.
            public class Stock : Base, INamed {
                public string Name { get; }
                public int Total { get; }
                public Stock(string name);
                public Reservation Reserve(int amount, bool force = false);
            }
        "#]],
    );
}

#[test]
fn the_members_that_the_line_asks_for_are_there_where_the_budget_is_small() {
    let files = r#"
//- shop/models.py
class Base:
    def save(self, force: bool = False) -> None: ...
class Stock(Base):
    def reserve(self, amount: int) -> bool: ...
class Other:
    def unrelated(self, a: int, b: int, c: int, d: int, e: int, f: int) -> int: ...
def open_stock(path: str) -> Stock: ...
the_stock = Stock()
//- shop/tools.py
def restock(item, count=1): ...
"#;
    // Each ends with the member that the context must offer.
    for (code, member) in [
        (
            "from shop.models import Stock, Other\ndef f(o: Other, x: Stock):\n    x.$0\n",
            "def reserve(self, amount: int)",
        ),
        (
            "from shop.models import Stock, Other\ndef f(o: Other):\n    x = Stock()\n    o.y()\n    x.$0\n",
            "def reserve",
        ),
        (
            "from shop.models import open_stock, Other\ndef f(o: Other):\n    x = open_stock('a')\n    x.$0\n",
            "def reserve",
        ),
        ("from shop.models import the_stock, Other\ndef f(o: Other):\n    the_stock.$0\n", "def reserve"),
        ("from shop.models import Stock\ndef f(stock):\n    stock.$0\n", "def reserve"),
        (
            "from shop.models import Stock\nclass Mine(Stock):\n    def f(self):\n        self.$0\n",
            "def reserve",
        ),
        ("from shop.models import Stock\nStock.$0\n", "def reserve"),
        ("from shop import tools\ndef f(x):\n    tools.$0\n", "def restock(item, count=1)"),
        ("import shop.tools as t\ndef f(x):\n    t.$0\n", "def restock(item, count=1)"),
    ] {
        let fixture = Fixture::new(&format!("{files}//- main.py\n{code}"));
        let shown = written(&fixture.context(420));
        assert!(shown.contains(member), "{code}\n{shown}");
    }
}
