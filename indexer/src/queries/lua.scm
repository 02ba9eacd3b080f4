; Lua: tables and what is put into them, functions, variables, `require`.
(variable_declaration (assignment_statement (variable_list name: (identifier) @name))) @definition.variable
((variable_declaration (assignment_statement (variable_list . name: (identifier) @name .)
  (expression_list . value: (table_constructor) @body))) @definition.class)
((variable_declaration (assignment_statement (variable_list . name: (identifier) @name .)
  (expression_list . value: (function_call name: (_) @_call)))) @definition.class
  (#match? @_call "^setmetatable$|[cC]lass$|\\.?extend$"))
(variable_declaration (assignment_statement (expression_list . value: (function_definition body: (_) @until)))) @about
(assignment_statement (variable_list name: (identifier) @name)) @definition.variable
(assignment_statement (variable_list . name: (identifier) @name .) (expression_list . value: (table_constructor) @body))
  @definition.class
(assignment_statement (variable_list . name: (dot_index_expression table: (identifier) @owner field: (identifier) @name)))
  @definition.variable
(assignment_statement (variable_list . name: (dot_index_expression))
  (expression_list . value: (function_definition body: (_) @until))) @about
(field name: (identifier) @name) @definition.field
(field value: (function_definition body: (_) @until)) @about

(function_declaration name: (identifier) @name) @definition.function
(function_declaration name: [
  (dot_index_expression table: (identifier) @owner field: (identifier) @name)
  (method_index_expression table: (identifier) @owner method: (identifier) @name)
  (dot_index_expression table: (dot_index_expression field: (identifier) @owner) field: (identifier) @name)
  (method_index_expression table: (dot_index_expression field: (identifier) @owner) method: (identifier) @name)])
  @definition.method
(function_declaration body: (block) @until) @about

(variable_declaration (assignment_statement (variable_list . name: (identifier) @import.alias)
  (expression_list . value: (function_call name: (identifier) @_require
    arguments: (arguments (string content: (string_content) @import.source))))) (#eq? @_require "require"))
(variable_declaration (assignment_statement (variable_list . name: (identifier) @import.alias)
  (expression_list . value: (dot_index_expression
    table: (function_call name: (identifier) @_require
      arguments: (arguments (string content: (string_content) @import.source)))
    field: (identifier) @import.name))) (#eq? @_require "require"))
(return_statement (expression_list . (identifier) @export.default .))
(return_statement (expression_list . (table_constructor) @descend))
