//! Members in Java: of which receivers the type is known, and what they may be asked for.

use lacuna_indexer::{Language, syntax};

use crate::support::Fixture;

const FILES: &str = "\
//- shop/Stock.java
package shop;
import java.io.Serializable;
public class Stock extends Base implements Serializable, Comparable<Stock> {
    public static final Stock EMPTY = null;
    private int secret;
    int count;
    public Shelf shelf;
    public Stock[] parts;
    public Stock() {}
    @Override public int compareTo(Stock other) { return 0; }
    public Shelf shelf(int at) { return null; }
    public Shelf of(String name) { return null; }
    public Stock of(int number) { return null; }
    public <Shelf> Shelf any() { return null; }
    public static class Part { public Stock whole; void mend() {} }
    public enum Kind { NEW, OLD; public Shelf place() { return null; } }
}
//- shop/Base.java
package shop;
public abstract class Base { protected Shelf inherited; public void save() {} }
//- shop/Shelf.java
package shop;
public interface Shelf { Stock first(); int HEIGHT = 2; default Box<Stock> box() { return null; } }
//- shop/Box.java
package shop;
public class Box<T> { public T value; public T get() { return null; } public Box<T> self() { return this; } }
//- shop/Foreign.java
package shop;
public class Foreign extends org.elsewhere.Thing { public void own() {} }
//- shop/Made.java
package shop;
import lombok.Data;
@Data public class Made { int number; }
//- shop/Failure.java
package shop;
public class Failure extends RuntimeException { public int code() { return 1; } }
//- shop/Point.java
package shop;
public record Point(int x, Shelf shelf) { int sum() { return x; } }
";

/// Of what is typed in a method of `Main`, in the same package unless it says another one, some of the names; nothing where it
/// is not sure.
fn check(marked: &str, expected: &[&str], lacking: &[&str]) {
    let main = match marked.contains("class ") {
        true => marked.to_owned(),
        false => format!(
            "package shop;\nclass Main extends Base {{\n    Stock field;\n    void f(Stock a) {{\n        {marked}\n    }}\n}}\n"
        ),
    };
    let fixture = Fixture::new(&format!("{FILES}//- shop/Main.java\n{main}"));
    let (path, offset) = fixture.cursor.as_ref().unwrap();
    let text = main.replace("$0", "x()");
    let tree = syntax::parse_str(Language::Java, &text).unwrap();
    let found = fixture.workspace.snapshot().members_at(path, &text, &tree, *offset);
    assert_eq!(found.is_some(), !expected.is_empty(), "{marked:?}: {found:?}");
    let found = found.unwrap_or_default();
    for name in expected {
        assert!(found.iter().any(|other| other == name), "{marked:?}: {name} is not in {found:?}");
    }
    for name in lacking {
        assert!(!found.iter().any(|other| other == name), "{marked:?}: {name} is in {found:?}");
    }
}

#[test]
fn values_have_the_members_of_their_declared_types() {
    let stock: &[&str] = &["count", "shelf", "of", "save", "inherited", "compareTo", "EMPTY", "toString"];
    check("a.$0", stock, &["secret", "Stock", "class", "mend"]);
    check("int b = a.$0", stock, &[]);
    check("g(a.$0", stock, &[]);
    check("field.$0", stock, &[]);
    check("this.field.$0", stock, &[]);
    check("new Stock().$0", stock, &[]);
    check("((Stock) o).$0", stock, &[]);
    check("var b = new Stock(); b.$0", stock, &[]);
    check("for (Stock b : all) b.$0", stock, &[]);
    check("g((Stock b) -> b.$0", stock, &[]);
    check("try (Stock b = g()) { b.$0 }", stock, &[]);
    check("Stock.$0", stock, &[]);
    check("Stock.EMPTY.$0", stock, &[]);
    check("a.shelf.first().$0", stock, &[]);
    check("inherited.first().$0", stock, &[]);
    check("a.shelf(1).$0", &["first", "HEIGHT", "box"], &["save"]);
    check("a.shelf.box().self().$0", &["value", "get", "self"], &[]);
    check("new Stock.Part().$0", &["whole", "mend"], &["save"]);
    check("Stock.Kind.NEW.$0", &["place", "name", "ordinal", "OLD"], &["save"]);
    check("new Point(1, null).$0", &["x", "shelf", "sum"], &[]);
    check("new Point(1, null).shelf.$0", &["first"], &[]);
    check("new Failure().$0", &["code", "getMessage", "addSuppressed"], &[]);
    check("try { g(); } catch (Failure e) { e.$0 }", &["code"], &[]);
}

#[test]
fn any_doubt_is_no_answer() {
    check("b.$0", &[], &[]);
    check("a.parts.$0", &[], &[]);
    // Which overload is called is not looked at.
    check("a.of(b).$0", &[], &[]);
    // Parameters of types.
    check("a.any().$0", &[], &[]);
    check("a.shelf.box().get().$0", &[], &[]);
    check("package shop;\nclass Main<Stock> { void f(Stock a) { a.$0 } }\n", &[], &[]);
    // More than the workspace tells.
    check("Foreign b; b.$0", &[], &[]);
    check("Made b; b.$0", &[], &[]);
    check("List<Stock> b; b.$0", &[], &[]);
    check("try { g(); } catch (Failure | Other e) { e.$0 }", &[], &[]);
    check("if (a instanceof Stock b) b.$0", &[], &[]);
    check("class Stock {} Stock b; b.$0", &[], &[]);
    check("package shop;\nimport org.elsewhere.Stock;\nclass Main { void f(Stock a) { a.$0 } }\n", &[], &[]);
    check("package other;\nclass Main { void f(Stock a) { a.$0 } }\n", &[], &[]);
}

#[test]
fn names_mean_what_is_nearest() {
    let shelf: &[&str] = &["first"];
    check(
        "package shop;\nclass Main { Stock a; void f() { { Stock b; } Shelf b; b.$0 } }\n",
        shelf,
        &["save"],
    );
    check("package shop;\nclass Main { Stock a; void f(Shelf a) { a.$0 } }\n", shelf, &["save"]);
    check(
        "package shop;\nclass Main { Stock a; class Inner { Shelf a; void f() { a.$0 } } }\n",
        shelf,
        &["save"],
    );
    check("package shop;\nclass Main { Shelf a; class Inner { void f() { a.$0 } } }\n", shelf, &["save"]);
    check("package shop;\nclass Main { Shelf g() { return null; } void f() { g().$0 } }\n", shelf, &["save"]);
    check(
        "package shop;\nclass Main { class Stock { int own; } void f(Stock a) { a.$0 } }\n",
        &["own"],
        &["save"],
    );
    check(
        "package other;\nimport shop.Stock;\nclass Main { void f(Stock a) { a.$0 } }\n",
        &["shelf", "save"],
        &["secret", "count"],
    );
}

/// The body of a method with a stock `a`, and the accesses that are known and that are missing.
#[test]
fn accesses_are_missing_only_where_everything_is_known() {
    let check = |body: &str, known: &[&str], missing: &[&str]| {
        let text = format!("package shop;\nclass Main {{ void f(Stock a, Foreign b) {{ {body} }} }}\n");
        let fixture = Fixture::new(&format!("{FILES}//- shop/Main.java\n$0{text}"));
        let (path, _) = fixture.cursor.as_ref().unwrap();
        let tree = syntax::parse_str(Language::Java, &text).unwrap();
        let check = fixture.workspace.snapshot().check_members(path, &text, &tree, 0..text.len());
        let found: Vec<&str> = check.known.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(found, known, "{body}");
        let found: Vec<&str> = check.missing.iter().map(|missing| &text[missing.range.clone()]).collect();
        assert_eq!(found, missing, "{body}");
    };
    check("a.save();", &["save"], &[]);
    check("a.store();", &["store"], &["store"]);
    check("a.shelf.first().store();", &["shelf", "first", "store"], &["store"]);
    check("a.hashCode(); a.getClass();", &[], &[]);
    check("b.store();", &[], &[]);
    // Said elsewhere too, so it may be defined there.
    check("a.store(); store();", &[], &[]);
    check("Stock.Kind.NEW.store(); Stock.Kind.values();", &["Kind", "NEW", "store", "Kind"], &["store"]);
}

#[test]
fn types_that_go_round_in_a_circle_end() {
    let text = "package shop;\nclass Main { void f(A a) { a.x.$0 } }\n";
    let fixture = Fixture::new(&format!(
        "//- shop/A.java\npackage shop;\nclass A extends B.X {{}}\n//- shop/B.java\npackage shop;\nclass B extends A.Y {{}}\n//- shop/Main.java\n{text}"
    ));
    let (path, offset) = fixture.cursor.as_ref().unwrap();
    let text = text.replace("$0", "x()");
    let tree = syntax::parse_str(Language::Java, &text).unwrap();
    assert_eq!(fixture.workspace.snapshot().members_at(path, &text, &tree, *offset), None);
}
