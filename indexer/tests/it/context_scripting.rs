//! What the context of a cursor shows in Ruby, PHP, Lua and Bash.

use crate::support::{Fixture, written};
use expect_test::{Expect, expect};

fn check(fixture: &str, expected: Expect) {
    expected.assert_eq(&written(&Fixture::new(fixture).context(4000)));
}

#[test]
fn ruby() {
    check(
        r#"
//- lib/stock.rb
# frozen_string_literal: true

# Goods in a warehouse.
class Stock < Record
  attr_reader :name, :count
  def initialize(name, count = 0)
    @name = name
  end

  # Sets goods aside.
  def reserve(amount)
    amount
  end

  def self.load(path); end
end
//- app.rb
require_relative "lib/stock"

def order
  stock = Stock.load("a")
  stock.$0
end
"#,
        expect![[r#"
            --- lib/stock.rb (class `Stock`, whose members are used here)
            # Goods in a warehouse.
            class Stock < Record
                attr_reader :name, :count
                def initialize(name, count = 0)
                def reserve(amount)
                def self.load(path)
            end
        "#]],
    );
}

#[test]
fn php() {
    check(
        r#"
//- src/Stock.php
<?php
namespace Shop;
/** Goods in a warehouse. */
class Stock extends Record {
    private int $secret = 1;
    public const LIMIT = 10;
    public function __construct(public readonly string $name) {}
    public function reserve(int $amount): Reservation { return new Reservation($amount); }
    abstract public function check();
}
enum State { case Open; case Closed; }
//- app.php
<?php
use Shop\Stock;
use Shop\State;

function order(State $state) {
    $stock = new Stock("a");
    $stock->$0
}
"#,
        expect![[r#"
            --- src/Stock.php (enum `State` used here, imported at line 3; class `Stock`, whose members are used here)
            // Goods in a warehouse.
            class Stock extends Record {
                public const LIMIT = 10;
                public function __construct(public readonly string $name);
                public readonly string $name;
                public function reserve(int $amount): Reservation;
                abstract public function check();
            }
            enum State {
                case Open;
                case Closed;
            }
        "#]],
    );
}

#[test]
fn lua() {
    check(
        r#"
//- stock.lua
-- Goods in a warehouse.
local Stock = {
  LIMIT = 10,
}
Stock.__index = Stock

function Stock.load(path)
  return setmetatable({}, Stock)
end

--- Sets goods aside.
function Stock:reserve(amount)
  return amount
end

return Stock
//- app.lua
local Stock = require("stock")

local function order()
  local stock = Stock.load("a")
  stock:$0
end
"#,
        expect![[r#"
            --- stock.lua (class `Stock`, whose members are used here)
            -- Goods in a warehouse.
            local Stock = {
                LIMIT = 10
            }
            function Stock.load(path)
            function Stock:reserve(amount)
        "#]],
    );
}

#[test]
fn bash() {
    check(
        r#"
//- lib/log.sh
# Writes a line.
log_line() {
  echo "$1"
}
LIMIT=10
//- app.sh
source "${DIR}/lib/log.sh"

main() {
  log_line "$LIMIT"
  $0
}
"#,
        expect![[r#"
            --- lib/log.sh (function `log_line` used here, through the import at line 1; variable `LIMIT` used here, through the import at line 1)
            # Writes a line.
            log_line()
            LIMIT=10
        "#]],
    );
}
