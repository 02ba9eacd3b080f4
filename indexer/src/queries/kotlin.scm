; Kotlin: types, their members, companions, top-level functions and properties, package and imports.
(package_header (qualified_identifier) @package)

(class_declaration "class" name: (identifier) @name) @definition.class
(class_declaration "interface" name: (identifier) @name) @definition.interface
((class_declaration (modifiers (class_modifier) @_enum) name: (identifier) @name) @definition.enum (#eq? @_enum "enum"))
(class_declaration (class_body) @body) @about
(class_declaration (enum_class_body) @body) @about
(class_declaration (delegation_specifiers (delegation_specifier [
  (user_type (identifier) @base .)
  (constructor_invocation (user_type (identifier) @base .))
  (explicit_delegation (user_type (identifier) @base .))]))) @about
(class_declaration (primary_constructor (class_parameters
  (class_parameter ["val" "var"] (identifier) @name) @definition.member)))
(object_declaration name: (identifier) @name) @definition.class
(object_declaration (class_body) @body) @about
(object_declaration (delegation_specifiers (delegation_specifier [
  (user_type (identifier) @base .)
  (constructor_invocation (user_type (identifier) @base .))]))) @about
(companion_object (class_body) @descend)
(enum_entry . (modifiers)? . (identifier) @name) @definition.variant

(function_declaration name: (identifier) @name) @definition.function
(function_declaration (function_body) @until) @about
(secondary_constructor "constructor" @name (function_value_parameters)) @definition.constructor
(secondary_constructor (block) @until) @about
(property_declaration (variable_declaration . (annotation)* . (identifier) @name)) @definition.variable
(property_declaration (multi_variable_declaration (variable_declaration (identifier) @name))) @definition.variable
(property_declaration [(getter) (setter)] @until) @about
(type_alias type: (identifier) @name) @definition.type

(import (qualified_identifier) @import.source)
(import (qualified_identifier) @import.source (identifier) @import.alias)
(import (qualified_identifier) @import.source "*" @import.all)
