; TypeScript and TSX on top of ecmascript.scm: interfaces, enums, type aliases, typed members, namespaces.
(abstract_class_declaration name: (_) @name body: (class_body) @body) @definition.class
(class_declaration (class_heritage (extends_clause value: [(identifier) (member_expression)] @base))) @about
(class_declaration (class_heritage (implements_clause [
  (type_identifier) @base (generic_type name: (type_identifier) @base)]))) @about
(abstract_class_declaration (class_heritage (extends_clause value: [(identifier) (member_expression)] @base))) @about
(abstract_class_declaration (class_heritage (implements_clause [
  (type_identifier) @base (generic_type name: (type_identifier) @base)]))) @about
(interface_declaration name: (type_identifier) @name body: (interface_body) @body) @definition.interface
(interface_declaration (extends_type_clause type: [
  (type_identifier) @base (generic_type name: (type_identifier) @base)])) @about
(enum_declaration name: (identifier) @name body: (enum_body) @body) @definition.enum
(enum_body name: (_) @name @definition.variant)
(enum_assignment name: (_) @name) @definition.variant
(type_alias_declaration name: (type_identifier) @name) @definition.type
(type_alias_declaration value: (object_type) @body) @about
(function_signature name: (identifier) @name) @definition.function
(method_signature name: (_) @name) @definition.method
(abstract_method_signature name: (_) @name) @definition.method
(public_field_definition name: (_) @name) @definition.field
(public_field_definition value: (arrow_function body: (_) @until)) @about
(property_signature name: (_) @name) @definition.field
(method_definition parameters: (formal_parameters
  (required_parameter (accessibility_modifier) pattern: (identifier) @name) @definition.field))
(method_definition parameters: (formal_parameters
  (required_parameter . "readonly" pattern: (identifier) @name) @definition.field))
(internal_module name: (_) @name body: (statement_block) @body) @definition.namespace
(module name: (_) @name body: (statement_block) @body) @definition.namespace
(expression_statement (internal_module) @descend)
(ambient_declaration) @descend
(import_statement (import_require_clause (identifier) @import.alias source: (string) @import.source))
