--- The options: defaults, checking, merging. Options of the server itself live under `server` and are passed on
--- untouched; only the server knows their names.
local M = {}

---@class lacuna.Config
M.defaults = {
  -- Serve buffers as they are opened. `:Lacuna enable` turns it on later.
  enabled = true,
  -- The server command: a list of strings. nil is { 'lacuna', 'lsp' }, found on PATH.
  ---@type string[]?
  cmd = nil,
  -- Environment variables added for the server.
  ---@type table<string, string|number>?
  cmd_env = nil,
  -- Filetypes served; '*' is the answer for all that are not listed.
  ---@type table<string, boolean>
  filetypes = {
    ['*'] = true,
    [''] = true,
    gitrebase = false,
    help = false,
    hgcommit = false,
    svn = false,
  },
  -- The first of these found upwards from the file makes the workspace folder; a file with none is served alone.
  root_markers = {
    '.git',
    '.hg',
    '.jj',
    'Cargo.toml',
    'pyproject.toml',
    'package.json',
    'go.mod',
    'compile_commands.json',
    'CMakeLists.txt',
    'pom.xml',
  },
  -- A larger buffer is not served (bytes).
  max_file_bytes = 1024 * 1024,
  -- Restart a server that ended by itself, at most this many times in five minutes.
  max_restarts = 3,
  ghost_text = {
    -- 'native': vim.lsp.inline_completion (Neovim 0.12); 'extmark': the plugin's own; 'auto': native where it exists.
    backend = 'auto',
    -- Wait after the last key before asking (milliseconds). 'extmark' only: Neovim's own waits 200 ms.
    debounce_ms = 30,
    -- While Neovim's popup menu is open: 'hide' or 'show' the ghost text.
    popup_menu = 'hide',
  },
  -- Insert mode keys in served buffers; false is no key. Every key does what it did before when it has nothing to do.
  ---@type table<string, string|false>
  keymap = {
    accept = '<Tab>',
    accept_word = false,
    accept_line = false,
    next = false,
    previous = false,
    dismiss = false,
  },
  -- Options of the server, as it names them: model, promptStyle, maxTokens, contextTokens, debounceMs, ...
  ---@type table<string, any>
  server = {},
}

-- Options whose default is nil or whose values may have more than one type.
local TYPES = {
  cmd = { 'table' },
  cmd_env = { 'table' },
  ['keymap.accept'] = { 'string', 'boolean' },
  ['keymap.accept_word'] = { 'string', 'boolean' },
  ['keymap.accept_line'] = { 'string', 'boolean' },
  ['keymap.next'] = { 'string', 'boolean' },
  ['keymap.previous'] = { 'string', 'boolean' },
  ['keymap.dismiss'] = { 'string', 'boolean' },
}

-- Tables whose keys belong to the user or to the server.
local OPEN = { cmd = true, cmd_env = true, filetypes = true, root_markers = true, server = true }

local CHOICES = {
  ['ghost_text.backend'] = { 'auto', 'native', 'extmark' },
  ['ghost_text.popup_menu'] = { 'hide', 'show' },
}

---@type lacuna.Config
M.current = vim.deepcopy(M.defaults)
--- What was wrong with the options last given, one message each.
---@type string[]
M.problems = {}

---@param known table
---@param given table
---@param path string
---@param problems string[]
---@return table checked what of `given` may be used
local function check(known, given, path, problems)
  local checked = {}
  for key, value in pairs(given) do
    local name = path == '' and tostring(key) or (path .. '.' .. tostring(key))
    local types = TYPES[name] or (known[key] ~= nil and { type(known[key]) } or nil)
    if not types then
      problems[#problems + 1] = ("unknown option '%s'"):format(name)
        .. (path == '' and '; options of the server go under `server`' or '')
    elseif not vim.list_contains(types, type(value)) then
      problems[#problems + 1] = ("option '%s' must be a %s, not a %s"):format(
        name,
        table.concat(types, ' or a '),
        type(value)
      )
    elseif CHOICES[name] and not vim.list_contains(CHOICES[name], value) then
      problems[#problems + 1] = ("option '%s' must be one of %s, not '%s'"):format(
        name,
        table.concat(CHOICES[name], ', '),
        value
      )
    elseif type(value) == 'number' and (value < 0 or value ~= value) then
      problems[#problems + 1] = ("option '%s' must not be negative"):format(name)
    elseif type(value) == 'table' and not OPEN[name] then
      checked[key] = check(known[key], value, name, problems)
    else
      checked[key] = value
    end
  end
  return checked
end

--- Takes the user's options over the defaults. A wrong option is left out and told about once.
---@param options? table
function M.set(options)
  local problems = {} ---@type string[]
  if options ~= nil and type(options) ~= 'table' then
    problems[1] = 'setup() takes a table of options, not a ' .. type(options)
    options = {}
  end
  local checked = check(M.defaults, options or {}, '', problems)
  M.current = vim.tbl_deep_extend('force', vim.deepcopy(M.defaults), checked)
  -- Lists are replaced as a whole, and the server's table is exactly what the user wrote.
  M.current.cmd = checked.cmd
  M.current.root_markers = checked.root_markers or vim.deepcopy(M.defaults.root_markers)
  M.current.server = vim.deepcopy(checked.server or {})
  M.problems = problems
  if #problems > 0 then
    vim.schedule(function()
      vim.notify('lacuna: ' .. table.concat(problems, '\nlacuna: ') .. '\nSee :help lacuna-options', vim.log.levels.WARN)
    end)
  end
end

--- The server command in use.
---@return string[]
function M.command()
  local cmd = M.current.cmd
  return cmd and #cmd > 0 and cmd or { 'lacuna', 'lsp' }
end

--- Which of the two ways shows ghost text here.
---@return 'native'|'extmark'
function M.backend()
  local native = vim.lsp.inline_completion ~= nil
  if M.current.ghost_text.backend == 'extmark' or not native then
    return 'extmark'
  end
  return 'native'
end

return M
