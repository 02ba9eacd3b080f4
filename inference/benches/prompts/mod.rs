//! Code that goes on as it began, for benchmarks of speculation.

pub const REPEATING: &[&str] = &[
    // A table of rows.
    "const COLORS: &[(&str, u8, u8, u8)] = &[\n    (\"red\", 255, 0, 0),\n    (\"green\", 0, 255, 0),\n    (\"blue\", 0, 0, 255),\n    (\"white\", 255, 255, 255),\n    (\"black\", 0, 0, 0),\n    (\"yellow\", 255, 255, 0),\n    (\"cyan\", 0, 255, 255),\n",
    // Test cases.
    "#[test]\nfn adds_small_numbers() {\n    let mut calculator = Calculator::new();\n    let result = calculator.add(1, 2);\n    assert_eq!(result, Ok(3));\n}\n\n#[test]\nfn adds_large_numbers() {\n    let mut calculator = Calculator::new();\n    let result = calculator.add(1000, 2000);\n    assert_eq!(result, Ok(3000));\n}\n\n#[test]\nfn subtracts_small_numbers() {\n    let mut calculator = Calculator::new();\n",
    // A rename: the same body under another name.
    "def load_user(path):\n    with open(path, encoding=\"utf-8\") as file:\n        data = json.load(file)\n    if \"name\" not in data:\n        raise ValueError(f\"{path}: no name\")\n    logger.info(\"loaded %s from %s\", data[\"name\"], path)\n    return User(name=data[\"name\"], age=data[\"age\"])\n\n\ndef load_account(path):\n    with open(path, encoding=\"utf-8\") as file:\n",
    // Fields of a struct, again in a constructor.
    "class Settings {\n  constructor(options) {\n    this.width = options.width;\n    this.height = options.height;\n    this.depth = options.depth;\n    this.color = options.color;\n    this.title = options.title;\n    this.visible = options.visible;\n  }\n\n  copy(options) {\n    this.width = options.width;\n    this.height = options.height;\n",
];
