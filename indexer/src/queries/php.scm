; PHP: types, their members, functions, constants, namespaces, `use` and `require`.
(namespace_definition name: (namespace_name) @package)
(namespace_definition body: (compound_statement) @descend)

(class_declaration name: (name) @name body: (declaration_list) @body) @definition.class
(class_declaration (base_clause [(name) @base (qualified_name (name) @base .)])) @about
(class_declaration (class_interface_clause [(name) @base (qualified_name (name) @base .)])) @about
(class_declaration body: (declaration_list (use_declaration [(name) @base (qualified_name (name) @base .)]))) @about
(interface_declaration name: (name) @name body: (declaration_list) @body) @definition.interface
(interface_declaration (base_clause [(name) @base (qualified_name (name) @base .)])) @about
(trait_declaration name: (name) @name body: (declaration_list) @body) @definition.trait
(enum_declaration name: (name) @name body: (enum_declaration_list) @body) @definition.enum
(enum_declaration (class_interface_clause [(name) @base (qualified_name (name) @base .)])) @about
(enum_case name: (name) @name) @definition.variant

(function_definition name: (name) @name body: (_) @until) @definition.function
(method_declaration name: (name) @name) @definition.method
(method_declaration body: (compound_statement) @until) @about
(method_declaration name: (name) @_name parameters: (formal_parameters
  (property_promotion_parameter name: (variable_name (name) @name)) @definition.field) (#eq? @_name "__construct"))
(method_declaration name: (name) @_name body: (compound_statement) @attributes (#eq? @_name "__construct"))
(expression_statement (assignment_expression left: (member_access_expression
  object: (variable_name (name) @_this) name: (name) @name)) (#eq? @_this "this")) @definition.attribute
(property_declaration (property_element name: (variable_name (name) @name))) @definition.field
(const_declaration (const_element . (name) @name)) @definition.constant
(expression_statement (function_call_expression function: (name) @_define
  arguments: (arguments . (argument (string (string_content) @name)))) (#eq? @_define "define")) @definition.constant
(if_statement body: (_) @descend)

(namespace_use_declaration) @import.tree
(expression_statement [
  (require_expression (_) @import.source) (require_once_expression (_) @import.source)
  (include_expression (_) @import.source) (include_once_expression (_) @import.source)]) @import.all
