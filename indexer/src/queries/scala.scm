; Scala: classes, objects, traits, enums, their members, givens and extensions, packages and imports.
(package_clause name: (package_identifier) @package)
(package_clause body: (template_body) @descend)

(class_definition name: (identifier) @name) @definition.class
(class_definition body: (template_body) @body) @about
(class_definition class_parameters: (class_parameters (class_parameter name: (identifier) @name) @definition.member))
(class_definition extend: (extends_clause type: [
  (type_identifier) @base
  (generic_type type: (type_identifier) @base)
  (stable_type_identifier (type_identifier) @base)])) @about
(object_definition name: (identifier) @name) @definition.class
(object_definition body: (template_body) @body) @about
(object_definition extend: (extends_clause type: [
  (type_identifier) @base (generic_type type: (type_identifier) @base)])) @about
(package_object name: (identifier) @name body: (template_body) @body) @definition.namespace
(trait_definition name: (identifier) @name) @definition.trait
(trait_definition body: (template_body) @body) @about
(trait_definition extend: (extends_clause type: [
  (type_identifier) @base (generic_type type: (type_identifier) @base)])) @about
(enum_definition name: (identifier) @name body: (enum_body) @body) @definition.enum
(enum_definition class_parameters: (class_parameters (class_parameter name: (identifier) @name) @definition.member))
(enum_case_definitions (simple_enum_case name: (identifier) @name) @definition.variant)
(enum_case_definitions (full_enum_case name: (identifier) @name) @definition.variant)

(function_definition name: (_) @name) @definition.function
(function_definition body: (_) @until) @about
(function_declaration name: (_) @name) @definition.function
(val_definition pattern: [(identifier) @name (identifiers (identifier) @name) (tuple_pattern (identifier) @name)])
  @definition.variable
(var_definition pattern: [(identifier) @name (identifiers (identifier) @name)]) @definition.variable
(val_declaration name: (identifier) @name) @definition.variable
(var_declaration name: (identifier) @name) @definition.variable
(given_definition name: (identifier) @name) @definition.variable
(given_definition body: (_) @until) @about
(type_definition name: (type_identifier) @name) @definition.type
(extension_definition) @descend

(import_declaration) @import.tree
