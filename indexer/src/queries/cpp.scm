; C++ on top of c.scm: classes, namespaces, members, out-of-class definitions, aliases.
(class_specifier name: (_) @name body: (field_declaration_list) @body) @definition.class
(class_specifier (base_class_clause [
  (type_identifier) @base
  (qualified_identifier name: (type_identifier) @base)
  (template_type name: (type_identifier) @base)])) @about
(struct_specifier (base_class_clause [
  (type_identifier) @base
  (qualified_identifier name: (type_identifier) @base)
  (template_type name: (type_identifier) @base)])) @about
(declaration type: (class_specifier body: (_)) @descend)
(namespace_definition name: (_) @name body: (declaration_list) @body) @definition.namespace
(namespace_definition !name body: (declaration_list) @descend)
(template_declaration) @descend
(declaration_list) @descend

(function_definition
  declarator: [
    (function_declarator declarator: [(field_identifier) (operator_name)] @name)
    (pointer_declarator declarator: (function_declarator declarator: [(field_identifier) (operator_name)] @name))
    (reference_declarator (function_declarator declarator: [(field_identifier) (operator_name) (identifier)] @name))])
  @definition.method
(function_definition
  declarator: [
    (function_declarator declarator: (qualified_identifier scope: (_) @owner name: [(identifier) (operator_name)] @name))
    (pointer_declarator declarator: (function_declarator declarator:
      (qualified_identifier scope: (_) @owner name: [(identifier) (operator_name)] @name)))
    (reference_declarator (function_declarator declarator:
      (qualified_identifier scope: (_) @owner name: [(identifier) (operator_name)] @name)))])
  @definition.method
(function_definition body: (_) @until) @about
(field_declaration declarator: [
  (function_declarator declarator: [(field_identifier) (operator_name)] @name)
  (pointer_declarator declarator: (function_declarator declarator: [(field_identifier) (operator_name)] @name))
  (reference_declarator (function_declarator declarator: [(field_identifier) (operator_name)] @name))]) @definition.method
(field_declaration declarator: (reference_declarator (field_identifier) @name)) @definition.field
(declaration declarator: (reference_declarator (function_declarator declarator: (identifier) @name))) @definition.function
(alias_declaration name: (type_identifier) @name) @definition.type
(concept_definition name: (identifier) @name) @definition.type
