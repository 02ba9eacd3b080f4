; Go: functions, methods (members of their receiver's type), types, constants, variables, imports.
(package_clause (package_identifier) @package)
(function_declaration name: (identifier) @name) @definition.function
(function_declaration body: (block) @until) @about
(method_declaration
  receiver: (parameter_list (parameter_declaration type: [
    (type_identifier) @owner
    (generic_type type: (type_identifier) @owner)
    (pointer_type (type_identifier) @owner)
    (pointer_type (generic_type type: (type_identifier) @owner))]))
  name: (field_identifier) @name) @definition.method
(method_declaration body: (block) @until) @about

(type_declaration) @descend
((type_spec name: (type_identifier) @name type: (struct_type (field_declaration_list) @body)) @definition.struct
  (#set! prefix "type "))
(type_spec type: (struct_type (field_declaration_list (field_declaration !name type: (_) @base)))) @about
(type_spec type: (interface_type (type_elem (_) @base))) @about
((type_spec name: (type_identifier) @name type: (interface_type) @body) @definition.interface
  (#set! prefix "type "))
((type_spec name: (type_identifier) @name) @definition.type (#set! prefix "type "))
((type_alias name: (type_identifier) @name) @definition.type (#set! prefix "type "))
(field_declaration name: (field_identifier) @name) @definition.field
(method_elem name: (field_identifier) @name) @definition.method
(const_declaration) @descend
((const_spec (identifier) @name) @definition.constant (#set! prefix "const "))
(var_declaration) @descend
(var_spec_list) @descend
((var_spec (identifier) @name) @definition.variable (#set! prefix "var "))

(import_declaration) @descend
(import_spec_list) @descend
(import_spec path: (_) @import.source)
(import_spec name: (_) @import.alias path: (_) @import.source)
