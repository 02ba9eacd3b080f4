; JavaScript on top of ecmascript.scm.
(class_declaration (class_heritage [(identifier) (member_expression)] @base)) @about
(field_definition property: (_) @name) @definition.field
(field_definition value: (arrow_function body: (_) @until)) @about
