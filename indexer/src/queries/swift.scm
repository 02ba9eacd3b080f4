; Swift: types, extensions (members of the type they extend), functions, properties, imports.
((class_declaration declaration_kind: _ @_kind name: (type_identifier) @name) @definition.class
  (#any-of? @_kind "class" "actor"))
(class_declaration declaration_kind: "struct" name: (type_identifier) @name) @definition.struct
(class_declaration declaration_kind: "enum" name: (type_identifier) @name) @definition.enum
(class_declaration name: (type_identifier) body: [(class_body) (enum_class_body)] @body) @about
(class_declaration name: (type_identifier)
  (inheritance_specifier inherits_from: (user_type (type_identifier) @base .))) @about
(class_declaration declaration_kind: "extension" name: (user_type (type_identifier) @owner .)
  body: [(class_body) (enum_class_body)] @body)
(protocol_declaration name: (type_identifier) @name body: (protocol_body) @body) @definition.interface
(protocol_declaration (inheritance_specifier inherits_from: (user_type (type_identifier) @base .))) @about
(enum_entry name: (simple_identifier) @name) @definition.variant

(function_declaration name: (_) @name) @definition.function
(function_declaration body: (function_body) @until) @about
(protocol_function_declaration name: (simple_identifier) @name) @definition.method
(init_declaration name: "init" @name) @definition.constructor
(init_declaration body: (function_body) @until) @about
(subscript_declaration "subscript" @name) @definition.method
(subscript_declaration (computed_property) @until) @about
(property_declaration name: (pattern bound_identifier: (simple_identifier) @name)) @definition.variable
(property_declaration computed_value: (computed_property) @until) @about
(property_declaration (willset_didset_block) @until) @about
(protocol_property_declaration name: (pattern bound_identifier: (simple_identifier) @name)) @definition.property
(associatedtype_declaration name: (type_identifier) @name) @definition.type
(typealias_declaration name: (type_identifier) @name) @definition.type

(import_declaration (identifier) @import.source) @import.all
