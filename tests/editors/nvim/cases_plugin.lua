--- The plugin around the ghost text: options, keys, buffers, commands, health, restarts. Independent of the backend
--- unless a case says so.
local RET_REST, RET_BELOW = 'urn a + b  # first', { '    # second' }

--- The lines of `:checkhealth lacuna`.
local function health(editor)
  editor:command('checkhealth lacuna')
  return table.concat(editor:lines(), '\n')
end

local function expect_contains(text, part)
  if not text:find(part, 1, true) then
    error(('expected %q in:\n%s'):format(part, text), 2)
  end
end

--- Waits until `:Lacuna log` would show a text.
local function expect_logged(editor, text)
  editor:wait(('%q in the log'):format(text), function()
    return editor:lua([[
      local lines = require('lacuna.log').lines(require('lacuna.config').command()[1])
      return table.concat(lines, '\n'):find(..., 1, true) ~= nil
    ]], text)
  end)
end

--- The lines of the scratch window a command opens.
local function expect_report(editor, name, part)
  editor:wait('the window ' .. name, function()
    return editor:api('nvim_buf_get_name', 0) == name
  end)
  expect_contains(table.concat(editor:lines(), '\n'), part)
end

local function not_served(editor)
  editor:expect_no_ghost(100)
  assert(not editor:lua([[
    local client = require('lacuna.client').get()
    return client ~= nil and client.attached_buffers[vim.api.nvim_get_current_buf()] ~= nil
  ]]), 'the buffer is served')
end

return {
  {
    name = 'options of the server go to it untouched, with status notifications asked for',
    spec = { options = { server = { model = 'a.gguf', promptStyle = 'fim', nested = { maxTokens = 7 }, list = { 1, 2 } } } },
    run = function(editor)
      editor:ready()
      local params = editor:expect_received('initialize').params
      assert(vim.deep_equal(params.initializationOptions, {
        model = 'a.gguf',
        promptStyle = 'fim',
        nested = { maxTokens = 7 },
        list = { 1, 2 },
        statusNotifications = true,
      }), vim.inspect(params.initializationOptions))
      assert(params.capabilities.textDocument.inlineCompletion ~= nil, 'inline completion is not announced')
    end,
  },
  {
    name = 'a server that registers inline completion later is asked as well',
    spec = { env = { MOCK_DYNAMIC = '1' } },
    run = function(editor)
      editor:ready()
      editor:wait('the registration', function()
        return editor:lua("return require('lacuna.client').offers_inline_completion(require('lacuna.client').ready(), vim.fn.bufnr())")
      end)
      editor:type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
  {
    name = 'options in vim.g.lacuna, without setup()',
    spec = { setup = 'global', options = { keymap = { accept = '<C-y>' } } },
    run = function(editor)
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:type('<C-y>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
    end,
  },
  {
    name = 'wrong options are named and left out',
    spec = { options = { keymap = { acept = '<Tab>' }, max_file_bytes = 'many', model = 'x', ghost_text = { popup_menu = 'maybe' } } },
    run = function(editor)
      editor:expect_notified("unknown option 'keymap.acept'")
      editor:expect_notified("option 'max_file_bytes' must be a number, not a string")
      editor:expect_notified("unknown option 'model'; options of the server go under `server`")
      editor:expect_notified("option 'ghost_text.popup_menu' must be one of hide, show, not 'maybe'")
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      expect_contains(health(editor), "unknown option 'keymap.acept'")
    end,
  },
  {
    name = 'setup() again keeps the server, sends it the new options, and changes the keys',
    run = function(editor)
      editor:ready()
      editor:lua([[
        local options = vim.json.decode(vim.env.LACUNA_TEST_OPTIONS)
        options.server = { maxTokens = 5 }
        options.keymap = { accept = '<C-y>' }
        require('lacuna').setup(options)
      ]])
      local message = editor:expect_received('workspace/didChangeConfiguration')
      assert(message.params.settings.lacuna.maxTokens == 5, vim.inspect(message.params))
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:type('<C-y>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
      assert(#editor:received('initialize') == 1, 'a second server was started')
    end,
  },
  {
    name = 'no key is mapped outside served buffers, or when turned off',
    spec = { options = { keymap = { accept = false } } },
    run = function(editor)
      editor:ready()
      local mapped = editor:lua([[
        return vim.tbl_map(function(mapping) return mapping.lhs end, vim.tbl_filter(function(mapping)
          return (mapping.desc or ''):find('Lacuna') ~= nil and not mapping.lhs:find('<Plug>')
        end, vim.list_extend(vim.api.nvim_get_keymap('i'), vim.api.nvim_buf_get_keymap(0, 'i'))))
      ]])
      assert(#mapped == 0, vim.inspect(mapped))
      editor:type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:lua("vim.keymap.set('i', '<F5>', '<Plug>(lacuna-accept)')")
      editor:type('<F5>')
      editor:expect_lines({ 'return a + b  # first', '    # second' })
    end,
  },
  {
    name = 'without a suggestion the key does what a mapping made before or after did',
    run = function(editor)
      editor:ready():type('i')
      local function falls_through(keys, expected)
        editor:type('<Esc>ggdGi' .. keys)
        editor:expect_lines({ expected })
      end
      falls_through('x<Tab>y', 'x   y')
      editor:lua("vim.keymap.set('i', '<Tab>', 'plain')")
      falls_through('x<Tab>y', 'xplainy')
      editor:lua("vim.keymap.set('i', '<Tab>', function() return '<lt>expr>' end, { expr = true })")
      falls_through('x<Tab>y', 'x<expr>y')
      editor:lua("vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ 'called' }, 'c', false, true) end)")
      falls_through('x<Tab>y', 'xcalledy')
      editor:command("inoremap <expr> <Tab> 'vim' . 'script'")
      falls_through('x<Tab>y', 'xvimscripty')
      editor:command('inoremap <F6> six')
      editor:command('imap <Tab> <F6>')
      falls_through('x<Tab>y', 'xsixy')
      editor:command('imap <Tab> <Tab>t')
      falls_through('x<Tab>y', 'x   ty')
    end,
  },
  {
    name = 'a mapping of the buffer is used without a suggestion and put back when Lacuna goes',
    spec = { options = { enabled = false } },
    run = function(editor)
      editor:lua("vim.keymap.set('i', '<Tab>', 'mine', { buffer = 0, desc = 'Mine' })")
      editor:command('Lacuna enable')
      editor:ready():type('ix<Tab>')
      editor:expect_lines({ 'xmine' })
      editor:type('<Esc>oret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:type('<Tab>')
      editor:expect_lines({ 'xmine', 'return a + b  # first', '    # second' })
      editor:type('<Esc>')
      editor:command('Lacuna disable')
      editor:wait('the mapping to be put back', function()
        return editor:lua("return vim.fn.maparg('<Tab>', 'i', false, true).desc") == 'Mine'
      end)
      editor:type('<Esc>ggdGi<Tab>')
      editor:expect_lines({ 'mine' })
    end,
  },
  {
    name = 'one server for two workspace folders; a file without one is served alone',
    spec = {
      files = { ['one/.git/HEAD'] = '', ['one/a.py'] = '', ['two/.git/HEAD'] = '', ['two/nested/Cargo.toml'] = '', ['two/nested/b.py'] = '' },
      open = 'one/a.py',
    },
    run = function(editor)
      editor:ready()
      local initialize = editor:expect_received('initialize').params
      assert(#initialize.workspaceFolders == 1 and initialize.workspaceFolders[1].uri:find('/one$'), 'first folder')
      editor:command('edit two/nested/b.py')
      editor:ready()
      local change = editor:expect_received('workspace/didChangeWorkspaceFolders').params.event
      assert(#change.added == 1 and change.added[1].uri:find('/two$'), vim.inspect(change))
      editor:type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:type('<Esc>')
      editor:command('edit! one/a.py')
      editor:ready()
      assert(#editor:received('workspace/didChangeWorkspaceFolders') == 1, 'a folder was told twice')
      assert(#editor:received('initialize') == 1, 'a second server was started')
    end,
  },
  {
    name = 'buffers that are not files, read-only, too large, unnamed or of an unwanted filetype are not served',
    spec = {
      files = { ['main.py'] = '', ['large.py'] = ('x = 1\n'):rep(100), ['message.txt'] = '', ['locked.py'] = '' },
      options = { max_file_bytes = 500, filetypes = { text = false } },
    },
    run = function(editor)
      editor:ready()
      for _, command in ipairs({
        'enew',
        'edit large.py',
        'edit message.txt',
        'help',
        'new | setlocal buftype=nofile | file scratch.py',
        'view locked.py',
      }) do
        editor:command(command)
        local served = editor:lua([[
          local client = require('lacuna.client').get()
          return client.attached_buffers[vim.api.nvim_get_current_buf()] ~= nil
        ]])
        assert(not served, command .. ': served')
        editor:command('silent! only | enew!')
      end
      assert(#editor:received('textDocument/didOpen') == 1)
    end,
  },
  {
    name = 'a buffer made read-only is taken away, and given back',
    run = function(editor)
      editor:ready()
      editor:command('setlocal readonly')
      editor:expect_received('textDocument/didClose')
      not_served(editor)
      editor:command('setlocal noreadonly')
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      assert(#editor:received('textDocument/didOpen') == 2)
      -- Without any event at all it is noticed when insert mode is entered.
      editor:type('<Esc>')
      editor:lua("vim.cmd('noautocmd setlocal readonly')")
      editor:type('i')
      not_served(editor)
    end,
  },
  {
    name = 'a changed filetype is told to the server',
    run = function(editor)
      editor:ready()
      editor:command('setlocal filetype=rust')
      editor:expect_received('textDocument/didOpen', function(message)
        return message.params.textDocument.languageId == 'rust'
      end)
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
  {
    name = 'a buffer that gets a name is served',
    spec = { open = 'main.py' },
    run = function(editor)
      editor:ready()
      editor:command('enew')
      not_served(editor)
      editor:command('file other.py | filetype detect')
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
  {
    name = ':Lacuna status and explain show what the server answers',
    run = function(editor)
      editor:ready()
      editor:command('Lacuna status')
      expect_report(editor, 'lacuna://status', 'model: mock\nstate: ready\nengine:\n  device: none')
      editor:type('q')
      editor:command('Lacuna explain')
      expect_report(editor, 'lacuna://explain', 'context:\n  - definitions of the mock\nstages:\n  promptMs: 1.50')
    end,
  },
  {
    name = ':Lacuna log shows what the server said',
    run = function(editor)
      editor:ready()
      expect_logged(editor, 'the mock is ready')
      editor:command('Lacuna log')
      expect_report(editor, 'lacuna://log', 'info    the mock is ready')
    end,
  },
  {
    name = ':Lacuna restart restarts the engine; with a bang the server',
    run = function(editor)
      editor:ready()
      editor:command('Lacuna restart')
      editor:expect_received('workspace/executeCommand', function(message)
        return message.params.command == 'lacuna.restartEngine'
      end)
      editor:expect_notified('the engine has been restarted')
      editor:command('Lacuna! restart')
      editor:wait('a second server', function()
        return #editor:received('initialize') == 2
      end)
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
  {
    name = ':Lacuna disable ends the server, enable starts it; for one buffer it goes on',
    run = function(editor)
      editor:ready()
      editor:command('Lacuna disable buffer')
      editor:expect_received('textDocument/didClose')
      not_served(editor)
      assert(editor:lua("return require('lacuna.client').ready() ~= nil"), 'the server is gone')
      editor:command('Lacuna toggle buffer')
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
      editor:command('Lacuna disable')
      editor:expect_received('exit')
      editor:wait('the ghost text to go', function()
        return not editor:shown()
      end)
      assert(editor:lua("return require('lacuna').statusline()") == 'lacuna: off')
      editor:command('Lacuna toggle')
      editor:ready()
    end,
  },
  {
    name = 'a wrong subcommand is answered with the right ones; completion knows them',
    run = function(editor)
      editor:command('Lacuna staus')
      editor:expect_notified("no subcommand 'staus'; there are: disable, enable, explain, log, restart, status, toggle")
      editor:command('Lacuna log buffer')
      editor:expect_notified("':Lacuna log' does not take 'buffer'")
      local function completes(line)
        return editor:api('nvim_call_function', 'getcompletion', { line, 'cmdline' })
      end
      assert(vim.deep_equal(completes('Lacuna e'), { 'enable', 'explain' }), vim.inspect(completes('Lacuna e')))
      assert(vim.deep_equal(completes('Lacuna toggle '), { 'buffer' }), vim.inspect(completes('Lacuna toggle ')))
    end,
  },
  {
    name = 'the status line follows the server',
    run = function(editor)
      editor:ready()
      editor:wait('the status', function()
        return editor:lua("return require('lacuna').statusline()") == 'lacuna: ready 12 ms'
      end)
      editor:lua([[
        require('lacuna.status').progress('load', { kind = 'begin', title = 'loading', percentage = 0 })
        require('lacuna.status').progress('load', { kind = 'report', percentage = 40 })
      ]])
      local line = editor:lua("return require('lacuna').statusline()")
      assert(line == 'lacuna: loading 40%', line)
      editor:command('enew')
      assert(editor:lua("return require('lacuna').statusline()") == '')
    end,
  },
  {
    name = 'a server that ends by itself is started again, not for ever',
    spec = { options = { max_restarts = 1 } },
    run = function(editor)
      editor:ready():type('icrash')
      editor:expect_notified('the server ended by itself (exit code 3, signal 0); starting it again')
      editor:expect_received('initialize')
      editor:wait('a second server', function()
        return #editor:received('initialize') == 2
      end)
      -- The first request to the second server ends it as well.
      editor:wait('the second end', function()
        editor:type('h')
        vim.wait(300)
        return table.concat(editor:lua('return notified'), ' '):find('too often; see :Lacuna log, then :Lacuna! restart', 1, true)
      end)
      editor:type('<Esc>')
      assert(editor:lua("return require('lacuna').statusline()") == 'lacuna: failed')
      expect_logged(editor, 'the mock ends as it was told to')
      editor:type('ddiret')
      editor:command('Lacuna! restart')
      editor:ready():type('u')
      editor:expect_ghost('rn a + b  # first', RET_BELOW)
    end,
  },
  {
    name = 'a missing server is told about once; the health check says what to do',
    spec = { server = { 'no-such-lacuna', 'lsp' } },
    run = function(editor)
      editor:expect_notified("'no-such-lacuna' was not found; install the server or set the option `cmd`")
      editor:command('edit other.py')
      editor:type('iret<Tab>')
      editor:expect_lines({ 'ret ' })
      assert(#editor:lua('return notified') == 1, vim.inspect(editor:lua('return notified')))
      assert(editor:lua("return require('lacuna').statusline()") == 'lacuna: not found')
      editor:type('<Esc>')
      local text = health(editor)
      expect_contains(text, "'no-such-lacuna' was not found")
      expect_contains(text, 'cargo install --path lsp')
      expect_contains(text, 'cmd = {')
    end,
  },
  {
    name = 'the health check of a running server',
    run = function(editor)
      editor:ready()
      local text = health(editor)
      for _, part in ipairs({
        'ghost text is shown by:',
        'the options are understood',
        'running for 1 buffers, positions in utf-16',
        'the server answers',
        'model: mock',
        'main.py: served',
        '<Tab>: accept',
      }) do
        expect_contains(text, part)
      end
      assert(not text:find('ERROR'), text)
    end,
  },
  {
    name = 'nothing of the plugin is loaded before a file is',
    spec = { setup = 'global', open = '' },
    run = function(editor)
      local function loaded()
        return editor:lua([[
          return vim.tbl_filter(function(name) return vim.startswith(name, 'lacuna') end, vim.tbl_keys(package.loaded))
        ]])
      end
      assert(editor:lua('return vim.g.loaded_lacuna') == true, 'the plugin was not found')
      assert(#loaded() == 0, vim.inspect(loaded()))
      editor:command('edit main.py')
      editor:ready():type('iret')
      editor:expect_ghost(RET_REST, RET_BELOW)
    end,
  },
  {
    name = 'every option, command and key is in the help, and the help has its tags',
    run = function(editor)
      editor:lua([[
        vim.fn.mkdir('help/doc', 'p')
        vim.uv.fs_copyfile(vim.env.LACUNA_PLUGIN .. '/doc/lacuna.txt', 'help/doc/lacuna.txt')
        vim.cmd('helptags help/doc')
      ]])
      local text = editor:lua("return table.concat(vim.fn.readfile('help/doc/lacuna.txt'), '\\n')")
      local names = editor:lua([[
        local names = {}
        local function collect(options, path)
          for key, value in pairs(options) do
            local name = path .. key
            if type(value) == 'table' and not vim.islist(value) and name ~= 'filetypes' and name ~= 'server' then
              collect(value, name .. '.')
            else
              names[#names + 1] = name
            end
          end
        end
        collect(require('lacuna.config').defaults, '')
        return names
      ]])
      for _, name in ipairs(vim.list_extend(names, { 'cmd', 'cmd_env' })) do
        expect_contains(text, '*lacuna-option-' .. name .. '*')
      end
      for _, name in ipairs(editor:api('nvim_call_function', 'getcompletion', { 'Lacuna ', 'cmdline' })) do
        expect_contains(text, ':Lacuna ' .. name)
      end
      for _, name in ipairs({ 'accept', 'accept-word', 'accept-line', 'next', 'previous', 'dismiss' }) do
        expect_contains(text, '<Plug>(lacuna-' .. name .. ')')
      end
      for line in vim.gsplit(text, '\n') do
        assert(vim.api.nvim_strwidth(line) <= 80, 'longer than 80 columns: ' .. line)
      end
    end,
  },
}
