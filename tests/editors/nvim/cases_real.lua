--- The same with the real server and its default model: what it says is not known beforehand, so what is shown is
--- compared with what is then in the buffer.
local RECTANGLE = table.concat({
  'class Rectangle:',
  '    def __init__(self, width, height):',
  '        self.width = width',
  '        self.height = height',
  '',
  '    def area(self):',
  '        return self.width * self.height',
  '',
  '',
}, '\n')

-- Loading a model and indexing on a loaded machine.
local READY_MS = 180000

local spec = {
  files = { ['.git/HEAD'] = '', ['shapes.py'] = RECTANGLE },
  open = 'shapes.py',
  server = { vim.env.LACUNA_BIN, 'lsp' },
  -- On a loaded machine a late answer is better than none.
  options = { server = { deadlineMs = 60000 }, keymap = { accept_word = '<C-l>', accept_line = '<C-j>', next = '<C-n>' } },
}

--- Types a method and waits for ghost text that stays.
local function suggestion(editor)
  editor:ready()
  editor:type('Go    def perimeter(self):<CR>return ')
  return editor:wait('ghost text', function()
    local ghost = editor:ghost()
    if not ghost or ghost == vim.NIL then
      return nil
    end
    vim.wait(400)
    local later = editor:ghost()
    return later and later ~= vim.NIL and vim.deep_equal(ghost, later) and ghost or nil
  end, READY_MS)
end

local function whole(ghost)
  return table.concat(vim.list_extend({ ghost.first }, ghost.below), '\n')
end

local function text(editor)
  return table.concat(editor:lines(), '\n')
end

return {
  {
    name = 'real server: ghost text appears, Tab inserts exactly it, undo takes it back',
    spec = spec,
    run = function(editor)
      local ghost = suggestion(editor)
      local before = text(editor)
      editor:type('<Tab>')
      editor:wait('the suggestion in the buffer', function()
        return text(editor) == before .. whole(ghost)
      end)
      editor:type('<Esc>u')
      editor:wait('the suggestion to be gone', function()
        return text(editor) == before
      end)
      assert(#editor:lua('return notified') == 0, vim.inspect(editor:lua('return notified')))
    end,
  },
  {
    name = 'real server: typing into the suggestion keeps the rest of it',
    spec = spec,
    run = function(editor)
      local ghost = suggestion(editor)
      local first = vim.fn.strcharpart(ghost.first, 0, 1)
      assert(first ~= '', 'the suggestion begins with a line end: ' .. vim.inspect(ghost))
      editor:type(first == '<' and '<lt>' or first)
      editor:wait('the rest of it', function()
        local now = editor:ghost()
        return now and now ~= vim.NIL and now.first == ghost.first:sub(#first + 1)
      end)
    end,
  },
  {
    name = 'real server: a word is accepted and the rest stays',
    spec = spec,
    run = function(editor)
      local ghost = suggestion(editor)
      local before = text(editor)
      editor:type('<C-l>')
      local after = editor:wait('a word in the buffer', function()
        local now = text(editor)
        return now ~= before and now
      end)
      assert(vim.startswith(before .. whole(ghost), after), 'not a part of the suggestion: ' .. after)
    end,
  },
  {
    name = 'real server: status, explain and health answer',
    spec = spec,
    run = function(editor)
      suggestion(editor)
      editor:type('<Esc>')
      for _, name in ipairs({ 'status', 'explain' }) do
        editor:command('Lacuna ' .. name)
        editor:wait('the window of ' .. name, function()
          return editor:api('nvim_buf_get_name', 0) == 'lacuna://' .. name
        end)
        assert(#editor:lines() > 3, vim.inspect(editor:lines()))
        editor:command('close')
      end
      editor:wait('the status line', function()
        return editor:lua("return require('lacuna').statusline()"):find('^lacuna: .+ %d+ ms$')
      end)
      editor:command('checkhealth lacuna')
      local health = text(editor)
      assert(health:find('the server answers', 1, true) and not health:find('ERROR', 1, true), health)
    end,
  },
}
