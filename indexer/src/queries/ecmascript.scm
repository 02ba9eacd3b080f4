; What JavaScript and TypeScript share: functions, classes, variables, object members, imports, exports.
(class_declaration name: (_) @name body: (class_body) @body) @definition.class
(function_declaration name: (identifier) @name body: (statement_block) @until) @definition.function
(generator_function_declaration name: (identifier) @name body: (statement_block) @until) @definition.function
(method_definition name: (_) @name body: (statement_block) @until) @definition.method
(method_definition name: (property_identifier) @_name body: (statement_block) @attributes
  (#eq? @_name "constructor"))
(lexical_declaration (variable_declarator name: (identifier) @name)) @definition.variable
(lexical_declaration (variable_declarator name: (identifier) @name
  value: [(arrow_function body: (_) @until) (function_expression body: (_) @until)])) @definition.function
(lexical_declaration (variable_declarator name: (identifier) @name value: (object) @body)) @definition.variable
(lexical_declaration (variable_declarator name: (identifier) @name value: (class body: (class_body) @body))) @definition.class
(variable_declaration (variable_declarator name: (identifier) @name)) @definition.variable
(variable_declaration (variable_declarator name: (identifier) @name
  value: [(arrow_function body: (_) @until) (function_expression body: (_) @until)])) @definition.function
(pair key: (property_identifier) @name) @definition.field
(pair value: [(arrow_function body: (_) @until) (function_expression body: (_) @until)]) @about
(shorthand_property_identifier) @name @definition.field
(expression_statement (assignment_expression
  left: (member_expression object: (this) property: (property_identifier) @name))) @definition.attribute
((expression_statement (assignment_expression
  left: (member_expression object: (identifier) @_exports property: (property_identifier) @name))) @definition.variable
  (#eq? @_exports "exports"))
(export_statement) @descend

(import_statement (import_clause (identifier) @import.default) source: (string) @import.source)
(import_statement (import_clause (namespace_import (identifier) @import.alias)) source: (string) @import.source)
(import_statement (import_clause (named_imports (import_specifier name: (_) @import.name !alias)))
  source: (string) @import.source)
(import_statement (import_clause (named_imports (import_specifier name: (_) @import.name alias: (_) @import.alias)))
  source: (string) @import.source)
(export_statement (export_clause (export_specifier name: (_) @import.name !alias)) source: (string) @import.source)
(export_statement (export_clause (export_specifier name: (_) @import.name alias: (_) @import.alias))
  source: (string) @import.source)
(export_statement "*" @import.all source: (string) @import.source)
(export_statement (namespace_export (identifier) @import.alias) source: (string) @import.source)
(lexical_declaration (variable_declarator name: (identifier) @import.alias
  value: (call_expression function: (identifier) @_require arguments: (arguments . (string) @import.source)))
  (#eq? @_require "require"))
(lexical_declaration (variable_declarator name: (object_pattern (shorthand_property_identifier_pattern) @import.name)
  value: (call_expression function: (identifier) @_require arguments: (arguments . (string) @import.source)))
  (#eq? @_require "require"))
(variable_declaration (variable_declarator name: (identifier) @import.alias
  value: (call_expression function: (identifier) @_require arguments: (arguments . (string) @import.source)))
  (#eq? @_require "require"))
(variable_declaration (variable_declarator name: (object_pattern (shorthand_property_identifier_pattern) @import.name)
  value: (call_expression function: (identifier) @_require arguments: (arguments . (string) @import.source)))
  (#eq? @_require "require"))
(export_statement "default" declaration: (_ name: (_) @export.default))
(export_statement "default" value: (identifier) @export.default)
((expression_statement (assignment_expression
  left: (member_expression object: (identifier) @_module property: (property_identifier) @_exports)
  right: (identifier) @export.default))
  (#eq? @_module "module") (#eq? @_exports "exports"))
