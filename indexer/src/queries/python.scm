; Python: classes, functions, module and class variables, `self.x` set in constructors.
(class_definition name: (identifier) @name body: (block) @body) @definition.class
(class_definition superclasses: (argument_list [(identifier) (attribute)] @base)) @about
(class_definition superclasses: (argument_list (subscript value: [(identifier) (attribute)] @base))) @about
(class_definition body: (block . (expression_statement (string) @doc))) @about

(function_definition name: (identifier) @name body: (block) @until) @definition.function
(function_definition body: (block . (expression_statement (string) @doc))) @about
(function_definition name: (identifier) @_name body: (block) @attributes
  (#any-of? @_name "__init__" "__new__" "__post_init__" "setUp"))

(decorated_definition) @descend
(decorated_definition (decorator) @decorator definition: (_) @about)

(expression_statement (assignment left: (identifier) @name) @definition.variable)
(expression_statement (assignment left: (pattern_list (identifier) @name)) @definition.variable)
(expression_statement (assignment
  left: (attribute object: (identifier) @_self attribute: (identifier) @name)) @definition.attribute
  (#eq? @_self "self"))
(type_alias_statement left: (type) @name) @definition.type

(if_statement consequence: (block) @descend)
(if_statement alternative: (else_clause body: (block) @descend))
(if_statement alternative: (elif_clause consequence: (block) @descend))
(try_statement body: (block) @descend)
(try_statement (except_clause (block) @descend))
(try_statement (else_clause body: (block) @descend))
(with_statement body: (block) @descend)

(import_statement name: (dotted_name) @import.source)
(import_statement name: (aliased_import name: (dotted_name) @import.source alias: (identifier) @import.alias))
(import_from_statement module_name: (_) @import.source name: (dotted_name) @import.name)
(import_from_statement module_name: (_) @import.source
  name: (aliased_import name: (dotted_name) @import.name alias: (identifier) @import.alias))
(import_from_statement module_name: (_) @import.source (wildcard_import) @import.all)

; Imports at the beginning of functions, which break cycles between modules.
(function_definition body: (block (import_from_statement
  module_name: (_) @import.source name: (dotted_name) @import.name)))
(function_definition body: (block (import_from_statement module_name: (_) @import.source
  name: (aliased_import name: (dotted_name) @import.name alias: (identifier) @import.alias))))
(function_definition body: (block (import_statement name: (dotted_name) @import.source)))
