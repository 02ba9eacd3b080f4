; Bash: functions, variables, `source`.
(function_definition name: (word) @name body: (_) @until) @definition.function
(variable_assignment name: (variable_name) @name) @definition.variable
(declaration_command (variable_assignment name: (variable_name) @name)) @definition.variable
(if_statement) @descend
(else_clause) @descend
(list) @descend

((command name: (command_name (word) @_source) . argument: (_) @import.source)
  @import.all (#any-of? @_source "source" "."))
