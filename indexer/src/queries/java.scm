; Java: types, their members, package and imports.
(class_declaration name: (identifier) @name body: (class_body) @body) @definition.class
(class_declaration superclass: (superclass
  [(type_identifier) @base (scoped_type_identifier) @base
    (generic_type . [(type_identifier) (scoped_type_identifier)] @base)])) @about
(class_declaration interfaces: (super_interfaces (type_list
  [(type_identifier) @base (scoped_type_identifier) @base
    (generic_type . [(type_identifier) (scoped_type_identifier)] @base)]))) @about
(interface_declaration name: (identifier) @name body: (interface_body) @body) @definition.interface
(interface_declaration (extends_interfaces (type_list
  [(type_identifier) @base (scoped_type_identifier) @base
    (generic_type . [(type_identifier) (scoped_type_identifier)] @base)]))) @about
(enum_declaration name: (identifier) @name body: (enum_body) @body) @definition.enum
(enum_declaration interfaces: (super_interfaces (type_list
  [(type_identifier) @base (scoped_type_identifier) @base
    (generic_type . [(type_identifier) (scoped_type_identifier)] @base)]))) @about
(record_declaration name: (identifier) @name body: (class_body) @body) @definition.class
(record_declaration interfaces: (super_interfaces (type_list
  [(type_identifier) @base (scoped_type_identifier) @base
    (generic_type . [(type_identifier) (scoped_type_identifier)] @base)]))) @about
(record_declaration parameters: (formal_parameters (formal_parameter name: (identifier) @name) @definition.member))
(annotation_type_declaration name: (identifier) @name body: (_) @body) @definition.interface
(enum_body_declarations) @descend
(enum_constant name: (identifier) @name) @definition.variant
(method_declaration name: (identifier) @name) @definition.method
(method_declaration body: (block) @until) @about
(constructor_declaration name: (identifier) @name body: (constructor_body) @until) @definition.constructor
(field_declaration declarator: (variable_declarator name: (identifier) @name)) @definition.field
(constant_declaration declarator: (variable_declarator name: (identifier) @name)) @definition.field

(package_declaration [(scoped_identifier) (identifier)] @package)
(import_declaration [(scoped_identifier) (identifier)] @import.source)
(import_declaration [(scoped_identifier) (identifier)] @import.source (asterisk) @import.all)
