; Ruby: classes, modules, methods, attributes, constants, `@x` set in the constructor, `require`.
(module name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.module
(module body: (body_statement) @body) @about
(class name: [(constant) @name (scope_resolution name: (constant) @name)]) @definition.class
(class superclass: (superclass [(constant) @base (scope_resolution name: (constant) @base)])) @about
(class body: (body_statement) @body) @about
(class body: (body_statement (call
  method: (identifier) @_include arguments: (argument_list [(constant) @base (scope_resolution name: (constant) @base)])))
  (#any-of? @_include "include" "extend" "prepend")) @about
(singleton_class body: (body_statement) @descend)

(method name: (_) @name) @definition.function
(method name: (_) body: (_) @until) @about
(method name: (identifier) @_name body: (body_statement) @attributes (#eq? @_name "initialize"))
(singleton_method name: (_) @name) @definition.function
(singleton_method name: (_) body: (_) @until) @about
(call method: (identifier) @_private arguments: (argument_list [(method) (singleton_method)]) @descend
  (#any-of? @_private "private" "protected" "public" "module_function" "private_class_method"))
(call !receiver method: (identifier) @_attribute arguments: (argument_list (simple_symbol) @name)
  (#any-of? @_attribute "attr_reader" "attr_writer" "attr_accessor" "has_many" "belongs_to" "has_one" "scope" "delegate"))
  @definition.field
(alias name: (_) @name) @definition.method

(assignment left: (constant) @name) @definition.constant
((assignment left: (constant) @name right: (call
  receiver: (constant) @_struct method: (identifier) @_new arguments: (argument_list))) @definition.class
  (#any-of? @_struct "Struct" "Data" "Class") (#any-of? @_new "new" "define"))
((assignment right: (call receiver: (constant) @_struct
  arguments: (argument_list (simple_symbol) @name @definition.member))) (#any-of? @_struct "Struct" "Data"))
(assignment left: (constant) right: (call block: (do_block body: (body_statement) @body))) @about
(assignment left: (instance_variable) @name) @definition.attribute

((call !receiver method: (identifier) @_require arguments: (argument_list . (string (string_content) @import.source)))
  @import.all (#any-of? @_require "require" "require_relative" "load" "autoload"))
