//! What the context of a cursor shows in Kotlin, Swift and Scala.

use crate::support::{Fixture, written};
use expect_test::{Expect, expect};

fn check(fixture: &str, expected: Expect) {
    expected.assert_eq(&written(&Fixture::new(fixture).context(4000)));
}

#[test]
fn kotlin() {
    check(
        r#"
//- model/Stock.kt
package shop.model

/** Goods in a warehouse. */
@Serializable
data class Stock(val name: String, private val secret: Int) : Record() {
    val empty: Boolean
        get() = true

    fun reserve(amount: Int): Reservation {
        return Reservation(amount)
    }

    private fun hidden() = 1

    companion object {
        fun load(path: String): Stock = TODO()
    }
}
//- App.kt
package shop.app

import shop.model.Stock

fun order() {
    val stock = Stock.load("a")
    stock.$0
}
"#,
        expect![[r#"
            --- model/Stock.kt (class `Stock`, whose members are used here)
            // Goods in a warehouse.
            data class Stock(val name: String, private val secret: Int) : Record() {
                val empty: Boolean
                fun reserve(amount: Int): Reservation
                fun load(path: String): Stock
            }
        "#]],
    );
}

#[test]
fn swift() {
    check(
        r#"
//- Stock.swift
/// Goods in a warehouse.
public class Stock: Record {
    let name: String
    private var secret = 1
    init(name: String) { self.name = name }
    func reserve(_ amount: Int) throws -> Reservation { fatalError() }
}
extension Stock {
    static func load(path: String) -> Stock { fatalError() }
}
//- App.swift
func order() {
    let stock = Stock.load(path: "a")
    stock.$0
}
"#,
        expect![[r#"
            --- Stock.swift (class `Stock`, whose members are used here)
            // Goods in a warehouse.
            public class Stock: Record {
                let name: String
                init(name: String)
                func reserve(_ amount: Int) throws -> Reservation
                static func load(path: String) -> Stock
            }
        "#]],
    );
}

#[test]
fn scala() {
    check(
        r#"
//- model/Stock.scala
package shop.model

/** Goods in a warehouse. */
case class Stock(name: String) extends Record {
  val limit: Int = 10
  def reserve(amount: Int): Reservation = {
    Reservation(amount)
  }
  private def hidden = 1
}
object Stock {
  def load(path: String): Stock = ???
}
//- App.scala
package shop.app

import shop.model.Stock

object App {
  def order() = {
    val stock = Stock.load("a")
    stock.$0
  }
}
"#,
        expect![[r#"
            --- model/Stock.scala (class `Stock`, whose members are used here; class `Stock`, whose members are used here)
            // Goods in a warehouse.
            case class Stock(name: String) extends Record {
                val limit: Int = 10
                def reserve(amount: Int): Reservation
            }
            object Stock {
                def load(path: String): Stock
            }
        "#]],
    );
}
