--- The plugin's functions for users, and the life of a buffer: attached, served, detached.
local M = {}

local started = false

---@return table the backend in use: `lacuna.native` or `lacuna.ghost`
local function backend()
  return require(require('lacuna.config').backend() == 'native' and 'lacuna.native' or 'lacuna.ghost')
end

local function define_highlights()
  -- The colour Neovim 0.12 gives to its own ghost text, or that of comments.
  local has_native = vim.fn.hlexists('ComplHint') == 1
  vim.api.nvim_set_hl(0, 'LacunaGhostText', { default = true, link = has_native and 'ComplHint' or 'Comment' })
  vim.api.nvim_set_hl(0, 'LacunaGhostCount', { default = true, link = has_native and 'ComplHintMore' or 'Comment' })
end

--- Gives a buffer to the server if it is to be served, takes it away if not.
---@param bufnr integer
local function consider(bufnr)
  local client = require('lacuna.client')
  if require('lacuna.config').current.enabled and not require('lacuna.buffer').refusal(bufnr) then
    client.attach(bufnr)
  else
    client.detach(bufnr)
  end
end

--- Considers every loaded buffer that is in a window, and the rest when they are entered.
function M.attach_all()
  for _, window in ipairs(vim.api.nvim_list_wins()) do
    consider(vim.api.nvim_win_get_buf(window))
  end
end

--- Called when the server has been given a buffer.
---@param bufnr integer
function M.on_attach(bufnr)
  require('lacuna.keymap').attach(bufnr)
  require('lacuna.cursor').attach(bufnr)
  backend().attach(bufnr)
end

--- Called when the model has been loaded: whoever has typed meanwhile gets an answer without another key.
function M.ask_again()
  backend().ask_again(vim.api.nvim_get_current_buf())
end

---@param bufnr integer
local function on_detach(bufnr)
  require('lacuna.keymap').detach(bufnr)
  require('lacuna.cursor').detach(bufnr)
  for _, name in ipairs({ 'lacuna.native', 'lacuna.ghost' }) do
    -- The backend may have been changed since the buffer was attached.
    if package.loaded[name] then
      package.loaded[name].detach(bufnr)
    end
  end
end

local function watch()
  local group = vim.api.nvim_create_augroup('lacuna', { clear = true })
  local function on(events, callback, pattern)
    vim.api.nvim_create_autocmd(events, { group = group, pattern = pattern, callback = callback })
  end
  on({ 'BufEnter', 'BufFilePost', 'BufWritePost', 'InsertEnter' }, function(event)
    consider(event.buf)
  end)
  on('FileType', function(event)
    -- The server was told the language when the file was opened: tell it again.
    require('lacuna.client').detach(event.buf)
    consider(event.buf)
  end)
  on('OptionSet', function()
    consider(vim.api.nvim_get_current_buf())
  end, { 'readonly', 'modifiable', 'buftype' })
  on('LspDetach', function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == 'lacuna' then
      on_detach(event.buf)
    end
  end)
  on('LspProgress', function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    local params = event.data.params
    if client and client.name == 'lacuna' and params then
      require('lacuna.status').progress(params.token, params.value)
    end
  end)
  on('ColorScheme', define_highlights)
end

--- Sets the options and starts. Without it the plugin starts with `vim.g.lacuna`, or the defaults, at the first file.
---@param options? table see |lacuna-options|
function M.setup(options)
  if vim.fn.has('nvim-0.10') == 0 then
    vim.notify_once('lacuna: Neovim 0.10 or later is needed', vim.log.levels.ERROR)
    return
  end
  local again = started
  started = true
  require('lacuna.config').set(options or vim.g.lacuna)
  define_highlights()
  watch()
  if again then
    -- Keys and backend may have changed: every buffer begins anew with the same server.
    for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
      require('lacuna.client').detach(bufnr)
    end
    require('lacuna.client').reconfigure()
  end
  M.attach_all()
end

--- Starts with the options of `vim.g.lacuna` unless setup() has already run.
function M.start()
  if not started then
    M.setup()
  end
end

--- Whether a suggestion is on the screen in the current buffer.
---@return boolean
function M.visible()
  return backend().visible(vim.api.nvim_get_current_buf())
end

--- With the popup menu open its keys belong to the menu.
---@param amount lacuna.Amount
---@return boolean
local function accept(amount)
  if vim.fn.pumvisible() == 1 and vim.fn.complete_info({ 'selected' }).selected >= 0 then
    return false
  end
  return backend().accept(vim.api.nvim_get_current_buf(), amount)
end

--- Inserts the suggestion. Each of these answers false when there was nothing to do.
---@return boolean
function M.accept()
  return accept('all')
end

--- Inserts the suggestion up to the end of its next word.
---@return boolean
function M.accept_word()
  return accept('word')
end

--- Inserts the suggestion up to its next line end.
---@return boolean
function M.accept_line()
  return accept('line')
end

--- Shows the next alternative; asks the server for alternatives first if need be.
---@return boolean
function M.next()
  return backend().cycle(vim.api.nvim_get_current_buf(), 1)
end

---@return boolean
function M.previous()
  return backend().cycle(vim.api.nvim_get_current_buf(), -1)
end

--- Takes the suggestion away until something is typed.
---@return boolean
function M.dismiss()
  return backend().dismiss(vim.api.nvim_get_current_buf())
end

--- Whether Lacuna serves a buffer, or, without one, whether it is on at all.
---@param bufnr? integer
---@return boolean
function M.is_enabled(bufnr)
  if not require('lacuna.config').current.enabled then
    return false
  end
  return bufnr == nil or require('lacuna.buffer').refusal(bufnr) == nil
end

--- Turns Lacuna on or off: for one buffer, or everywhere, which also ends the server and frees its memory.
---@param on boolean
---@param bufnr? integer
function M.enable(on, bufnr)
  M.start()
  if bufnr then
    vim.b[bufnr].lacuna_enabled = on
    consider(bufnr)
    return
  end
  require('lacuna.config').current.enabled = on
  if on then
    M.attach_all()
  else
    require('lacuna.client').stop()
  end
  vim.cmd('redrawstatus')
end

--- A few words for the status line, for example `lacuna: ready 38 ms`; empty where Lacuna has nothing to say.
---@return string
function M.statusline()
  if not started then
    return ''
  end
  local client = require('lacuna.client')
  local attached = client.get() ~= nil and client.get().attached_buffers[vim.api.nvim_get_current_buf()] ~= nil
  return require('lacuna.status').line(attached, require('lacuna.config').current.enabled)
end

return M
