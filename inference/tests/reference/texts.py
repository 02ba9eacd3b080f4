"""Texts behind the references: strings for the tokenizer, holes for the embedded model, a sample to learn merges from."""

# Encoded alone, never joined. Awkward ones on purpose: what an editor really holds.
TOKENIZER_STRINGS = [
    "",
    " ",
    "a",
    "\n",
    "\r\n",
    "\t",
    "hello world",
    " hello  world ",
    "def f(self, x):\n    return self.x[1234] + x\n",
    "fn main() {\n    println!(\"hi {}\", 1_000_000);\n}\n",
    "fn main() {\r\n\tlet x = 0xFFu8;\r\n}\r\n",
    "for (int i = 0; i < n; ++i) { a[i] *= 2; }",
    "const f = async <T,>(x: T): Promise<T> => await x ?? null;",
    "#include <vector>\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\n",
    "func (s *Server) Serve(ctx context.Context) error {\n\treturn nil\n}\n",
    "public static void main(String[] args) throws IOException {}",
    "SELECT id, name FROM users WHERE id = 'O''Brien';",
    "<div className=\"a-b_c\" style={{ width: '100%' }}>&nbsp;</div>",
    "    ",
    "        ",
    "\t\t\tif x:\n\t\t\t\tpass",
    " \t mixed \t indent\n",
    "trailing spaces   \n\n\n   next",
    "\n\n\n\n",
    "\r\n\r\n  \r\n",
    "lone carriage\rreturn",
    " " * 300 + "x",
    "x" * 200,
    "=" * 80,
    "# " + "-" * 77 + "\n",
    "0123456789",
    "1",
    "12 123 1234 3.14159 -1e-10 0b1010 0o777",
    "2026-11-23T22:30:00+01:00",
    "v1.2.3-rc.4+build.5",
    "don't we'll I'M THEY'RE he'd I've it's",
    "DON'T 'S 'Ll",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "getHTTPResponseCode2XX",
    "a.b.c::d->e?.f!.g",
    "((([[[{{{}}}]]])))",
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~\\",
    "https://example.org/a/b?c=d&e=f#g",
    "C:\\Users\\me\\file.txt",
    "café naïve Ångström",
    "cafe\u0301 nai\u0308ve",  # decomposed: a tokenizer that normalizes text shows itself here
    "\u212b \ufb01 \u00bd",  # Angstrom sign, fi ligature, one half
    "Привет, мир! Ёжик",
    "こんにちは、世界。プログラム",
    "你好,世界!變數 = 函数(參數)",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣",
    "שלום עולם",
    "नमस्ते दुनिया १२३",
    "😀😃🎉 ok 👍🏽",
    "👨‍👩‍👧‍👦 family 🏳️‍🌈",
    "let s = \"😀\"; // emoji 🚀\n",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ → λ ≠ μ",
    "zero\u200bwidth\u00a0nbsp\u3000wide\u2028line\u2029para\u0085nel",
    "\ufeffbom",
    "nul\u0000 bell\u0007 esc\u001b[0m del\u007f",
    "\ufffd replacement \U0010ffff last",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "not special: <|fim_prefix|> in the middle <|endoftext|>",
    "<|file_sep|>src/main.rs\nfn main() {}\n",
    "<|not_a_token|> <|im_start|>user",
    "\"\"\"Docstring.\n\n    Args:\n        x: int\n    \"\"\"\n",
    "// TODO(someone): fix 100% of the €5 bugs — “soon”…\n",
]

# Holes for the embedded model: (name, path, prefix, suffix).
FIM_HOLES = [
    (
        "python",
        "stock.py",
        '''"""Stock levels and reorder rules."""

from dataclasses import dataclass, field


@dataclass
class Item:
    name: str
    quantity: int = 0
    minimum: int = 10


@dataclass
class Warehouse:
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, name: str, quantity: int) -> Item:
        item = self.items.setdefault(name, Item(name))
        item.quantity += quantity
        return item

    def remove(self, name: str, quantity: int) -> Item:
        item = self.items[name]
        if item.quantity < quantity:
            raise ValueError(f"only {item.quantity} of {name} left")
        ''',
        '''
        return item

    def low(self) -> list[Item]:
        return [item for item in self.items.values() if item.quantity < item.minimum]
''',
    ),
    (
        "rust",
        "src/geometry.rs",
        '''//! Points and boxes.

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

impl Point {
    pub fn distance(self, other: Point) -> f64 {
        let dx = self.x - other.x;
        ''',
        '''
        (dx * dx + dy * dy).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_symmetric() {
        let a = Point { x: 1.0, y: 2.0 };
        let b = Point { x: 4.0, y: 6.0 };
        assert_eq!(a.distance(b), b.distance(a));
    }
}
''',
    ),
    (
        "typescript",
        "web/src/cart.ts",
        '''export interface Line {
  sku: string;
  price: number;
  count: number;
}

// Größe in €: 価格 🛒
export function total(lines: Line[]): number {
  return lines.reduce((sum, line) => sum + ''',
        ''', 0);
}

export function format(amount: number): string {
  return amount.toFixed(2) + " €";
}
''',
    ),
]

# What the tiny vocabularies' merges are learned from; only its pairs matter.
MERGES_SAMPLE = (
    FIM_HOLES[0][2] + FIM_HOLES[0][3] + FIM_HOLES[1][2] + FIM_HOLES[1][3] + FIM_HOLES[2][2] + FIM_HOLES[2][3]
    + "for (int i = 0; i < count; ++i) { total += values[i]; }\nreturn total;\n"
    + "func (s *Store) Get(key string) (string, error) {\n\tvalue, ok := s.values[key]\n\treturn value, nil\n}\n"
    + "public static void main(String[] args) { System.out.println(\"hello\"); }\n"
    + "import { value } from './value';\nconst result = await fetch(url);\nif (result.ok) { return result.json(); }\n"
    + "the quick brown fox jumps over the lazy dog 0123456789 100 200 2026\n"
)
