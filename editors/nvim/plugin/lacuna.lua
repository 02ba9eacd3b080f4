--- What exists before Lacuna is first needed: the command, the <Plug> keys, and a start on the first file.
--- Nothing else of the plugin is loaded until one of them is used.
if vim.g.loaded_lacuna then
  return
end
vim.g.loaded_lacuna = true

if vim.fn.has('nvim-0.10') == 0 then
  vim.notify_once('lacuna: Neovim 0.10 or later is needed; this is ' .. tostring(vim.version()), vim.log.levels.ERROR)
  return
end

vim.api.nvim_create_user_command('Lacuna', function(arguments)
  require('lacuna.command').run(arguments)
end, {
  nargs = '*',
  bang = true,
  desc = 'Lacuna: local code completion',
  complete = function(lead, line)
    return require('lacuna.command').complete(lead, line)
  end,
})

for key, action in pairs({
  ['accept'] = 'accept',
  ['accept-word'] = 'accept_word',
  ['accept-line'] = 'accept_line',
  ['next'] = 'next',
  ['previous'] = 'previous',
  ['dismiss'] = 'dismiss',
}) do
  vim.keymap.set('i', ('<Plug>(lacuna-%s)'):format(key), function()
    require('lacuna')[action]()
  end, { desc = 'Lacuna: ' .. action:gsub('_', ' ') })
end

vim.api.nvim_create_autocmd({ 'BufReadPost', 'BufNewFile', 'FileType', 'InsertEnter' }, {
  group = vim.api.nvim_create_augroup('lacuna.start', { clear = true }),
  once = true,
  callback = function()
    -- setup() may have run from the user's init already; start() is then a no-op.
    require('lacuna').start()
  end,
})
