; C#: types, their members, namespaces and using directives.
(namespace_declaration name: (_) @package body: (declaration_list) @descend)
(file_scoped_namespace_declaration name: (_) @package)

(class_declaration name: (identifier) @name) @definition.class
(class_declaration body: (declaration_list) @body) @about
(class_declaration (base_list [
  (identifier) @base (generic_name . (identifier) @base) (qualified_name name: (identifier) @base)])) @about
(struct_declaration name: (identifier) @name) @definition.struct
(struct_declaration body: (declaration_list) @body) @about
(struct_declaration (base_list [(identifier) @base (generic_name . (identifier) @base)])) @about
(interface_declaration name: (identifier) @name) @definition.interface
(interface_declaration body: (declaration_list) @body) @about
(interface_declaration (base_list [(identifier) @base (generic_name . (identifier) @base)])) @about
(record_declaration name: (identifier) @name) @definition.class
(record_declaration body: (declaration_list) @body) @about
(record_declaration (base_list [(identifier) @base (generic_name . (identifier) @base)])) @about
(record_declaration (parameter_list (parameter name: (identifier) @name) @definition.member))
(enum_declaration name: (identifier) @name) @definition.enum
(enum_declaration body: (enum_member_declaration_list) @body) @about
(enum_member_declaration name: (identifier) @name) @definition.variant
(method_declaration name: (identifier) @name) @definition.method
(method_declaration body: (_) @until) @about
(constructor_declaration name: (identifier) @name body: (_) @until) @definition.constructor
(property_declaration name: (identifier) @name) @definition.property
(property_declaration accessors: (accessor_list) @until) @about
(property_declaration value: (arrow_expression_clause) @until) @about
(field_declaration (variable_declaration (variable_declarator name: (identifier) @name))) @definition.field
(event_field_declaration (variable_declaration (variable_declarator name: (identifier) @name))) @definition.field
(delegate_declaration name: (identifier) @name) @definition.type
(preproc_if) @descend

(using_directive !name [(identifier) (qualified_name)] @import.source)
(using_directive name: (identifier) @import.alias [(qualified_name) (generic_name)] @import.source)
