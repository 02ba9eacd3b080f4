--- What the user sees and gets while typing, with the deterministic server.
local RET_REST, RET_BELOW = 'urn a + b  # first', { '    # second' }

--- Opens a buffer, types, and waits for the ghost text.
local function typed(editor, keys, first, below)
  editor:ready():type(keys)
  return editor:expect_ghost(first, below)
end

local KEYS = {
  keymap = {
    accept_word = '<C-l>',
    accept_line = '<C-j>',
    next = '<C-n>',
    previous = '<C-p>',
    dismiss = '<C-e>',
  },
}

local cases = {
  {
    name = 'ghost text appears and the buffer is untouched',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:expect_lines({ 'ret' })
      editor:expect_documents_agree()
    end,
  },
  {
    name = 'Tab accepts everything; the cursor stands behind it; the ghost text is gone',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('<Tab>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
      editor:expect_cursor(2, 12)
      editor:expect_no_ghost()
      editor:expect_documents_agree()
    end,
  },
  {
    name = 'undo takes back the suggestion alone, then what was typed',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      local levels = editor:lua('return { vim.o.undolevels, vim.bo.undolevels }')
      editor:type('<Tab>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
      editor:type('<Esc>u')
      editor:expect_lines({ 'ret' })
      editor:type('u')
      editor:expect_lines({ '' })
      assert(vim.deep_equal(levels, editor:lua('return { vim.o.undolevels, vim.bo.undolevels }')), 'undolevels changed')
    end,
  },
  {
    name = 'typing into the suggestion keeps it, without the typed part',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('urn')
      editor:expect_ghost(' a + b  # first', RET_BELOW)
      editor:type(' a ')
      editor:expect_ghost('+ b  # first', RET_BELOW)
    end,
  },
  {
    name = 'accepting at once after more typing inserts no letter twice',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('urn a<Tab>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
    end,
  },
  {
    name = 'typing something else takes the ghost text away at once',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('x')
      editor:expect_lines({ 'retx' })
      assert(not editor:shown(), 'ghost text of another text: ' .. vim.inspect(editor:ghost()))
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'Tab after typing something else is a tab',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('x<Tab>y')
      editor:expect_lines({ 'retx    y' })
    end,
  },
  {
    name = 'typing on after accepting by word, over a line end',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'ilin', 'e one', { 'line two', 'line three' })
      editor:type('e one<CR>')
      editor:expect_lines({ 'line one', '' })
      if editor:lua("return require('lacuna.config').backend()") == 'extmark' then
        editor:expect_ghost('line two', { 'line three' })
        editor:type('li<Tab>')
        editor:expect_lines({ 'line one', 'line two', 'line three' })
      end
    end,
  },
  {
    name = 'accept word by word',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'iwor', 'd_one.two(three, 4)')
      for _, step in ipairs({
        { 'word_one', '.two(three, 4)' },
        { 'word_one.', 'two(three, 4)' },
        { 'word_one.two', '(three, 4)' },
        { 'word_one.two(', 'three, 4)' },
        { 'word_one.two(three', ', 4)' },
        { 'word_one.two(three,', ' 4)' },
        { 'word_one.two(three, 4', ')' },
      }) do
        editor:type('<C-l>')
        editor:expect_lines({ step[1] })
        editor:expect_ghost(step[2])
      end
      editor:type('<C-l>')
      editor:expect_lines({ 'word_one.two(three, 4)' })
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'accept line by line',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'ilin', 'e one', { 'line two', 'line three' })
      editor:type('<C-j>')
      editor:expect_lines({ 'line one' })
      editor:expect_ghost('', { 'line two', 'line three' })
      editor:type('<C-j>')
      editor:expect_lines({ 'line one', 'line two' })
      if editor:lua("return require('lacuna.config').backend()") == 'extmark' then
        editor:expect_ghost('', { 'line three' })
        editor:type('<C-j>')
        editor:expect_lines({ 'line one', 'line two', 'line three' })
      end
    end,
  },
  {
    name = 'next and previous go round the alternatives; the one shown is accepted',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'ialt', 'ernative_one()')
      editor:type('<C-n>')
      editor:expect_ghost('ernative_two() (2/3)')
      editor:type('<C-n>')
      editor:expect_ghost('ernative_three() (3/3)')
      editor:type('<C-n>')
      editor:expect_ghost('ernative_one() (1/3)')
      editor:type('<C-p>')
      editor:expect_ghost('ernative_three() (3/3)')
      editor:type('<C-p>')
      editor:expect_ghost('ernative_two() (2/3)')
      editor:type('<Tab>')
      editor:expect_lines({ 'alternative_two()' })
      local invoked = vim.tbl_filter(function(message)
        return message.params.context.triggerKind == 1
      end, editor:received('textDocument/inlineCompletion'))
      assert(#invoked == 1, 'alternatives were asked for ' .. #invoked .. ' times')
    end,
  },
  {
    name = 'previous as the first step shows the last alternative',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'ialt', 'ernative_one()')
      editor:type('<C-p>')
      editor:expect_ghost('ernative_three() (3/3)')
    end,
  },
  {
    name = 'dismiss takes it away, Tab is a tab, typing brings it back',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('<C-e>')
      editor:expect_no_ghost()
      editor:type('u')
      editor:expect_ghost('rn a + b  # first', RET_BELOW)
      editor:type('<C-e>')
      editor:wait('the ghost text to go', function()
        return not editor:shown()
      end)
      editor:type('<Tab>')
      editor:expect_lines({ 'retu    ' })
    end,
  },
  {
    name = 'leaving insert mode takes it away',
    run = function(editor)
      typed(editor, 'iret', RET_REST, RET_BELOW)
      editor:type('<Esc>')
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'moving the cursor away takes it away',
    spec = { files = { ['main.py'] = 'first\n\n' } },
    run = function(editor)
      typed(editor, 'joret', RET_REST, RET_BELOW)
      editor:type('<Up>')
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'an item without a range is inserted at the cursor',
    run = function(editor)
      typed(editor, 'inorange', '_item()')
      editor:type('<Tab>')
      editor:expect_lines({ 'norange_item()' })
    end,
  },
  {
    name = 'CRLF in the text of an item is a line end',
    backend = 'extmark',
    run = function(editor)
      typed(editor, 'icrlf', '_one', { '_two' })
      editor:type('<Tab>')
      editor:expect_lines({ 'crlf_one', '_two' })
    end,
  },
  {
    name = 'an item that brings back the bracket after the cursor shows it once and inserts it once',
    backend = 'extmark',
    spec = { files = { ['main.py'] = 'call()\n' } },
    run = function(editor)
      editor:ready():type('f(a')
      local ghost = editor:expect_ghost('first, second')
      assert(ghost.position == 'inline')
      editor:type('<Tab>')
      editor:expect_lines({ 'call(first, second)' })
      editor:expect_cursor(1, 19)
    end,
  },
  {
    name = 'an item that replaces the bracket after the cursor inserts it once (native)',
    backend = 'native',
    spec = { files = { ['main.py'] = 'call()\n' } },
    run = function(editor)
      editor:ready():type('f(a')
      editor:expect_ghost('first, second)')
      editor:type('<Tab>')
      editor:expect_lines({ 'call(first, second)' })
      editor:expect_cursor(1, 19)
    end,
  },
  {
    name = 'typing before accepting does not change what an item replaces after the cursor',
    spec = { files = { ['main.py'] = 'call()\n' } },
    run = function(editor)
      editor:ready():type('f(a')
      editor:wait('ghost text', function()
        return editor:shown()
      end)
      editor:type('fir<Tab>')
      editor:expect_lines({ 'call(first, second)' })
    end,
  },
  {
    name = 'text after the cursor is not covered',
    spec = { files = { ['main.py'] = 'f()\n' } },
    run = function(editor)
      editor:ready():type('f(awor')
      editor:expect_ghost('d_one.two(three, 4)')
      editor:wait('ghost text between the words', function()
        return editor:ghost().position == 'inline'
      end)
      editor:type('d_')
      editor:expect_ghost('one.two(three, 4)')
      editor:wait('ghost text between the words', function()
        return editor:ghost().position == 'inline'
      end)
      editor:type('<Tab>')
      editor:expect_lines({ 'f(word_one.two(three, 4))' })
    end,
  },
  {
    name = 'an item that replaces the rest of the line covers it',
    backend = 'extmark',
    spec = { files = { ['main.py'] = 'swap(old)\n' } },
    run = function(editor)
      editor:ready():type('f(a')
      local ghost = editor:expect_ghost('new_value)')
      assert(ghost.position == 'overlay', ghost.position)
      editor:type('<Tab>')
      editor:expect_lines({ 'swap(new_value)' })
    end,
  },
  {
    name = 'text after the cursor is shown behind the last line of several',
    backend = 'extmark',
    spec = { files = { ['main.py'] = 'block()\n' } },
    run = function(editor)
      editor:ready():type('f(a')
      local ghost = editor:expect_ghost(' ', { '    inner,', ')' })
      assert(ghost.position == 'overlay', ghost.position)
      editor:type('<Tab>')
      editor:expect_lines({ 'block(', '    inner,', ')' })
      editor:expect_cursor(3, 0)
    end,
  },
  {
    name = 'tabs are drawn as wide as in the buffer',
    backend = 'extmark',
    spec = { files = { ['main.py'] = '' } },
    run = function(editor)
      editor:ready()
      editor:command('setlocal tabstop=4')
      editor:type('itab')
      editor:expect_ghost('bed {', { '    inner', '        deeper', '}' })
    end,
  },
  {
    name = 'an error of the server shows nothing and says nothing',
    run = function(editor)
      editor:ready():type('ifailing ret')
      editor:expect_received('textDocument/inlineCompletion', function(message)
        return message.params.position.character == 11
      end)
      editor:expect_no_ghost()
      assert(#editor:lua('return notified') == 0, vim.inspect(editor:lua('return notified')))
    end,
  },
  {
    name = 'the command of an item runs after it is accepted whole, not after a word',
    spec = { options = KEYS },
    run = function(editor)
      typed(editor, 'icmd', '_with_command()')
      editor:type('<C-l>')
      editor:expect_lines({ 'cmd_with_command' })
      editor:expect_ghost('()')
      assert(#editor:received('workspace/executeCommand') == 0, 'ran too early')
      editor:type('<Tab>')
      editor:expect_lines({ 'cmd_with_command()' })
      local message = editor:expect_received('workspace/executeCommand')
      assert(message.params.command == 'mock.accepted' and message.params.arguments[1] == 1)
    end,
  },
  {
    name = 'a new key cancels the request on the way, and its answer is not shown',
    backend = 'extmark',
    run = function(editor)
      editor:ready():type('islow')
      local first = editor:expect_received('textDocument/inlineCompletion', function(message)
        return message.params.position.character == 4
      end)
      editor:type('x')
      editor:expect_received('$/cancelRequest', function(message)
        return message.params.id == first.id
      end)
      editor:expect_no_ghost(900)
    end,
  },
  {
    name = 'leaving insert mode cancels the request on the way',
    run = function(editor)
      editor:ready():type('islow')
      local first = editor:expect_received('textDocument/inlineCompletion', function(message)
        return message.params.position.character == 4
      end)
      editor:type('<Esc>')
      editor:expect_received('$/cancelRequest', function(message)
        return message.params.id == first.id
      end)
      editor:expect_no_ghost(900)
    end,
  },
  {
    name = 'an answer that comes after the text was changed is not shown (native)',
    backend = 'native',
    run = function(editor)
      editor:ready():type('islow')
      editor:expect_received('textDocument/inlineCompletion', function(message)
        return message.params.position.character == 4
      end)
      editor:type('x')
      editor:expect_received('textDocument/didChange', function(message)
        return vim.json.encode(message.params.contentChanges):find('x') ~= nil
      end)
      editor:expect_no_ghost(2600)
    end,
  },
  {
    name = 'a burst of keys becomes one request',
    run = function(editor)
      editor:ready():type('ireturn a')
      editor:expect_ghost(' + b  # first', RET_BELOW)
      local requests = editor:received('textDocument/inlineCompletion')
      assert(#requests <= 3, #requests .. ' requests for one burst of keys')
    end,
  },
  {
    name = 'what was typed while the model was loading is asked about when it is ready',
    spec = { env = { MOCK_LOADING = '1' } },
    run = function(editor)
      editor:ready()
      editor:wait('the status', function()
        return editor:lua("return require('lacuna').statusline()"):find('loading') ~= nil
      end)
      editor:type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      assert(#editor:received('textDocument/didChange') >= 1)
    end,
  },
  {
    name = 'the server is told where the cursor has come to rest',
    spec = { files = { ['main.py'] = 'a = 1\nb = 2\nc = 3\n' } },
    run = function(editor)
      editor:ready():type('G$')
      editor:expect_received('lacuna/cursorMoved', function(message)
        return message.params.position.line == 2 and message.params.position.character == 4
      end)
    end,
  },
  {
    name = 'replace mode is left alone',
    backend = 'extmark',
    spec = { files = { ['main.py'] = 'abcdef\n' } },
    run = function(editor)
      editor:ready():type('Rret')
      editor:expect_lines({ 'retdef' })
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'the popup menu hides the ghost text and keeps its keys',
    spec = { files = { ['main.py'] = 'retained\n\n' }, options = KEYS },
    run = function(editor)
      editor:command('set completeopt=menuone')
      typed(editor, 'joret', RET_REST, RET_BELOW)
      editor:type('<C-x><C-n>')
      editor:wait('the popup menu', function()
        return editor:api('nvim_call_function', 'pumvisible', {}) == 1
      end)
      editor:expect_no_ghost()
    end,
  },
  {
    name = 'the popup menu and the ghost text side by side, if wanted',
    backend = 'extmark',
    spec = { files = { ['main.py'] = 'retained\nretaliate\n\n' }, options = { ghost_text = { popup_menu = 'show' } } },
    run = function(editor)
      editor:command('set completeopt=menuone,noselect,noinsert')
      typed(editor, 'Goret', RET_REST, RET_BELOW)
      editor:type('<C-x><C-n>')
      editor:wait('the popup menu', function()
        return editor:api('nvim_call_function', 'pumvisible', {}) == 1
      end)
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
}

for _, encoding in ipairs({ 'utf-8', 'utf-16', 'utf-32' }) do
  table.insert(cases, {
    name = 'emoji and CJK before, in and after the suggestion, ' .. encoding,
    spec = {
      files = { ['main.py'] = '# 😀日本 \n' },
      env = { MOCK_ENCODING = encoding },
      options = KEYS,
    },
    run = function(editor)
      typed(editor, 'A😀é uni', "code = '日本語😀é' + tail")
      local ghost = editor:ghost()
      assert(ghost.column == #'# 😀日本 😀é uni', 'drawn at byte ' .. ghost.column)
      editor:type("code = '日")
      editor:expect_ghost("本語😀é' + tail")
      editor:type('<Tab>')
      editor:expect_lines({ "# 😀日本 😀é unicode = '日本語😀é' + tail" })
      editor:type('x')
      editor:expect_documents_agree()
    end,
  })
end

return cases
